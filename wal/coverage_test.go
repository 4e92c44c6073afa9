package wal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

func TestCoverageOfNothing(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	c, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, wal.Coverage{}, c)
	require.Nil(t, c.Timeline(1))
	require.False(t, c.Holds(segment(1)))
	_, ok := c.From(segment(1))
	require.False(t, ok)

	require.NoError(t, a.Claim(t.Context(), "me", wal.System{ID: systemID, SegmentSize: 1 << 20}))
	c, err = a.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, wal.Coverage{System: wal.System{ID: systemID, SegmentSize: 1 << 20}}, c)
}

// several has three timelines: 1 with two gaps, 2 with its history, and 4 with a history and nothing else.
func several(t *testing.T, o *repo.Options) (*wal.Archive, repo.Store) {
	t.Helper()
	store := repotest.Mem(nil)
	a := openArchive(t, store, o)
	for _, number := range []uint64{300, 256, 254, 255, 250, 4095, 4096, 4097} { // in no order; over the edge of a group and of a name's part
		require.NoError(t, push(t, a, segment(number).Name(), content(segment(number))))
	}
	require.NoError(t, push(t, a, segment(251).Name()+".partial", content(segment(251))))
	require.NoError(t, push(t, a, segment(250).Name()+".00000028.backup", []byte("START WAL LOCATION: 0/FA000028 (file x)\n")))
	require.NoError(t, push(t, a, "00000002.history", waltest.History(wal.Fork{Timeline: 1, At: segment(256).Start() + 0x60})))
	require.NoError(t, push(t, a, segment(256).On(2).Name(), content(segment(256).On(2))))
	require.NoError(t, push(t, a, "00000004.history", waltest.History(
		wal.Fork{Timeline: 1, At: segment(256).Start() + 0x60}, wal.Fork{Timeline: 2, At: segment(256).Start() + 0x80})))
	return a, store
}

func TestCoverage(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			a, _ := several(t, options(t, kind))
			c, err := a.Coverage(t.Context())
			require.NoError(t, err)
			require.Equal(t, wal.System{ID: systemID, SegmentSize: 1 << 20}, c.System)
			require.Len(t, c.Timelines, 3)

			one := c.Timeline(1)
			require.Equal(t, []wal.Range{
				{First: segment(250), Last: segment(250)},
				{First: segment(254), Last: segment(256)},
				{First: segment(300), Last: segment(300)},
				{First: segment(4095), Last: segment(4097)},
			}, one.Ranges)
			require.Equal(t, []wal.Range{
				{First: segment(251), Last: segment(253)}, {First: segment(257), Last: segment(299)}, {First: segment(301), Last: segment(4094)},
			}, one.Gaps())
			require.Nil(t, one.History)
			require.Equal(t, 8, one.Segments)
			require.Greater(t, one.Bytes, int64(8*1000))
			require.Less(t, one.Bytes, int64(8<<20))

			two := c.Timeline(2)
			require.Equal(t, []wal.Range{{First: segment(256).On(2), Last: segment(256).On(2)}}, two.Ranges)
			require.Equal(t, wal.Timeline(2), two.History.Timeline)
			require.Empty(t, two.Gaps())
			four := c.Timeline(4)
			require.Empty(t, four.Ranges)
			require.Empty(t, four.Gaps())
			require.Len(t, four.History.Forks, 2)
			require.Nil(t, c.Timeline(3))

			for number, want := range map[uint64]uint64{250: 250, 254: 256, 255: 256, 256: 256, 300: 300, 4095: 4097, 4096: 4097} {
				last, ok := c.From(segment(number))
				require.True(t, ok && c.Holds(segment(number)), "%d", number)
				require.Equal(t, segment(want), last)
			}
			for _, missing := range []wal.Segment{
				segment(0), segment(249), segment(251), segment(253), segment(257), segment(299), segment(301), segment(4094), segment(4098),
				segment(250).On(2), segment(256).On(3), segment(256).On(4),
			} {
				_, ok := c.From(missing)
				require.False(t, ok || c.Holds(missing), "%s", missing)
			}

			h, ok := c.History(1)
			require.True(t, ok)
			require.Equal(t, wal.History{Timeline: 1}, h)
			h, ok = c.History(4)
			require.True(t, ok)
			require.Equal(t, wal.Timeline(2), h.Forks[1].Timeline)
			_, ok = c.History(3)
			require.False(t, ok)
		})
	}
}

func TestCoverageAsJSON(t *testing.T) {
	a, _ := several(t, nil)
	c, err := a.Coverage(t.Context())
	require.NoError(t, err)
	c.Timelines = c.Timelines[1:]
	c.Timelines[0].Bytes = 7
	b, err := json.Marshal(c)
	require.NoError(t, err)
	require.JSONEq(t, `{"system_id":"7500000000000000042","timelines":[
		{"timeline":2,"first":"000000020000000000000100","last":"000000020000000000000100","segments":1,"bytes":7,"gaps":[],
			"ranges":[{"timeline":2,"from":"000000020000000000000100","to":"000000020000000000000100"}]},
		{"timeline":4,"first":null,"last":null,"segments":0,"bytes":0,"gaps":[],"ranges":[]}]}`, string(b))
	b, err = json.Marshal(wal.Coverage{})
	require.NoError(t, err)
	require.JSONEq(t, `{"system_id":"0","timelines":[]}`, string(b))
}

// TestListingsPassOverUnknownKeys: later versions may have objects of other kinds (repo/FORMAT.md).
func TestListingsPassOverUnknownKeys(t *testing.T) {
	clean, store := several(t, nil)
	want, err := clean.Coverage(t.Context())
	require.NoError(t, err)
	known := storedIn(t, clean)
	prefix := fmt.Sprintf("%d/", uint64(systemID))
	for _, key := range []string{
		"wal/" + prefix + "junk", "wal/" + prefix + "00000001.later", "wal/" + prefix + "00000003.history.old",
		"wal/" + prefix + "00000001/junk", "wal/" + prefix + "00000001/00000001000000/junk",
		"wal/" + prefix + "00000001/00000001000000/000000010000000000000001.gz",
		"wal/" + prefix + "00000001/00000001000000/000000010000000000000100", // of another group
		"wal/" + prefix + "00000002/00000001000000/000000010000000000000001", // of another timeline
		"wal/" + prefix + "000000010000000000000001",                         // too high up
		"wal/" + prefix + "00000001/00000001000000/x/000000010000000000000001",
		"wal/" + prefix + "00000003/00000003.history",
		"wal/" + prefix + "00000001/00000001000010/000000010000000000001000", // no segment number at all
		"pieces/" + prefix + "junk", "pieces/" + prefix + "00000001000000000000000A/later", "indexes/" + prefix + "later",
		"wal/1/00000001/00000001000000/000000010000000000000001", "other/junk", // of no archive
	} {
		writeObject(t, store, key, []byte("x"))
	}
	a := openArchive(t, store, nil)
	got, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, known, storedIn(t, a))
	healed, err := join(t, nil, opened("a", a), opened("b", openArchive(t, recent(), nil))).Heal(t.Context(), &wal.HealOptions{MaxAge: 1e6 * time.Hour})
	require.NoError(t, err)
	require.Equal(t, healed[1].Owed, healed[1].Brought)

	// Fine in another cluster, but not where segments have 16 MiB.
	store = repotest.Mem(nil)
	a = openArchive(t, store, nil)
	require.NoError(t, a.Claim(t.Context(), "me", wal.System{ID: systemID, SegmentSize: 16 << 20}))
	writeObject(t, store, "wal/"+prefix+"00000001/00000001000000/000000010000000000000100", []byte("x"))
	got, err = a.Coverage(t.Context())
	require.NoError(t, err)
	require.Empty(t, got.Timelines)
}

// storedIn are the keys that an archive yields.
func storedIn(t *testing.T, a *wal.Archive) (keys []string) {
	t.Helper()
	for o, err := range a.Stored(t.Context()) {
		require.NoError(t, err)
		keys = append(keys, o.Key)
	}
	return keys
}

func TestCoverageDoesNotGuess(t *testing.T) {
	_, store := several(t, nil)
	history := fmt.Sprintf("wal/%d/00000002.history", uint64(systemID))
	for name, fault := range map[string]repotest.Fault{
		"the list fails":           {Op: repotest.OpList},
		"the list breaks off":      {Op: repotest.OpList, Key: "wal/*/", Do: repotest.Cut(3)},
		"the list of pieces fails": {Op: repotest.OpList, Key: "pieces/*/"},
		"the list fails at last":   {Op: repotest.OpList, Key: "wal/*/", Do: repotest.FailAfter(nil)},
		"a history cannot be read": {Op: repotest.OpOpen, Key: history},
		"a history breaks off":     {Op: repotest.OpOpen, Key: history, Do: repotest.Cut(20)},
		"a history is damaged":     {Op: repotest.OpOpen, Key: history, Do: repotest.Flip(90)},
		"a history is deleted":     {Op: repotest.OpOpen, Key: history, Do: repotest.Fail(fs.ErrNotExist)},
		"the claim cannot be read": {Op: repotest.OpOpen, Key: "systems/1"},
		"the claim is damaged":     {Op: repotest.OpOpen, Key: "systems/1", Do: repotest.Flip(20)},
	} {
		s := repotest.Faulty(store, fault)
		a, err := reopenArchive(t, s, nil)
		require.NoError(t, err, name)
		c, err := a.Coverage(t.Context())
		requireNoAnswer(t, err, name)
		require.Equal(t, wal.Coverage{}, c, name)
		require.Equal(t, 1, s.Struck(), name)
	}
}

func TestCoverageRefusesAHistoryThatIsNone(t *testing.T) {
	store := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	a := newArchive(t, r)
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	putObject(t, r, fmt.Sprintf("wal/%d/00000002.history", uint64(systemID)), []byte("no history\n"), nil)
	_, err = a.Coverage(t.Context())
	require.Error(t, err)
}

// What is missing on the way from one timeline to the next is a gap as well: of timelines of which nothing is held, too.
func TestGapsOfTimelines(t *testing.T) {
	on := func(t wal.Timeline, n uint64) wal.Segment {
		return wal.Segment{Timeline: t, Number: n, Size: wal.MinSegmentSize}
	}
	run := func(t wal.Timeline, first, last uint64) wal.Range {
		return wal.Range{First: on(t, first), Last: on(t, last)}
	}
	left := func(t wal.Timeline, in uint64) wal.Fork {
		return wal.Fork{Timeline: t, At: on(t, in).Start() + 100}
	}
	of := func(forks []wal.Fork, held ...[]wal.Range) wal.Coverage {
		c := wal.Coverage{System: wal.System{ID: systemID, SegmentSize: wal.MinSegmentSize}}
		for i, ranges := range held {
			t := wal.TimelineCoverage{Timeline: wal.Timeline(i + 1), Ranges: ranges}
			if i > 0 {
				t.History = &wal.History{Timeline: t.Timeline, Forks: forks[:i]}
			}
			c.Timelines = append(c.Timelines, t)
		}
		return c
	}
	two := []wal.Fork{left(1, 10), left(2, 20)}
	for _, tt := range []struct {
		name string
		c    wal.Coverage
		want []wal.Range
	}{
		{"nothing", wal.Coverage{}, nil},
		{"none", of(two, []wal.Range{run(1, 1, 10)}, []wal.Range{run(2, 10, 19)}, []wal.Range{run(3, 20, 30)}), nil},
		{"on one", of(two, []wal.Range{run(1, 1, 3), run(1, 5, 9)}, []wal.Range{run(2, 10, 19)}), []wal.Range{run(1, 4, 4)}},
		{"before a promotion", of(two, []wal.Range{run(1, 1, 7)}, []wal.Range{run(2, 10, 12)}), []wal.Range{run(1, 8, 9)}},
		{"behind one", of(two, []wal.Range{run(1, 1, 9)}, []wal.Range{run(2, 12, 12)}), []wal.Range{run(2, 10, 11)}},
		{
			"all of a timeline, told once", of(two, []wal.Range{run(1, 1, 8)}, nil, []wal.Range{run(3, 21, 30)}),
			[]wal.Range{run(1, 9, 9), run(2, 10, 19), run(3, 20, 20)},
		},
		{"on a timeline that others come of", of(two, []wal.Range{run(1, 1, 3), run(1, 5, 8)}, []wal.Range{run(2, 10, 19)},
			[]wal.Range{run(3, 20, 30)}), []wal.Range{run(1, 4, 4), run(1, 9, 9)}},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, tt.c.Gaps()) })
	}
	unknown := of(two, []wal.Range{run(1, 1, 3)}, []wal.Range{run(2, 10, 19)})
	unknown.Timelines[1].History = nil
	require.Empty(t, unknown.Gaps(), "a timeline of which nobody knows where it comes from")
}

func TestGapsOfRanges(t *testing.T) {
	require.Empty(t, wal.TimelineCoverage{}.Gaps())
	require.Empty(t, wal.TimelineCoverage{Ranges: []wal.Range{{First: segment(1), Last: segment(9)}}}.Gaps())
	require.Equal(t, []wal.Range{{First: segment(2), Last: segment(2)}}, wal.TimelineCoverage{Ranges: []wal.Range{
		{First: segment(1), Last: segment(1)}, {First: segment(3), Last: segment(3)},
	}}.Gaps())
}

// TestCoverageOfMany has more segments than a store lists at once.
func TestCoverageOfMany(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	require.NoError(t, a.Claim(t.Context(), "me", wal.System{ID: systemID, SegmentSize: 1 << 20}))
	for number := range uint64(3000) {
		name := segment(number).Name()
		writeObject(t, store, fmt.Sprintf("wal/%d/%s/%s/%s", uint64(systemID), name[:8], name[8:22], name), bytes.Repeat([]byte("x"), 10))
	}
	c, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, []wal.TimelineCoverage{{
		Timeline: 1, Ranges: []wal.Range{{First: segment(0), Last: segment(2999)}}, Segments: 3000, Bytes: 30_000,
	}}, c.Timelines)
}
