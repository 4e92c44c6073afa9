package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

func TestChainOfPieces(t *testing.T) {
	type p = [2]uint32
	require.Empty(t, wal.Chain())
	require.Empty(t, wal.Chain(p{1, 100}))
	require.Empty(t, wal.Chain(p{0, 39}))
	require.Equal(t, "0-40 ", wal.Chain(p{0, 40}))
	require.Equal(t, "0-100 100-150 ", wal.Chain(p{100, 150}, p{0, 50}, p{0, 100}, p{151, 200}, p{100, 120}))
	require.Equal(t, "0-100 50-150 120-400 ", wal.Chain(p{0, 100}, p{50, 150}, p{90, 110}, p{120, 400}, p{130, 399}))
	require.Equal(t, "0-400 ", wal.Chain(p{0, 100}, p{0, 400}, p{100, 400}))
}

// withPieces has segment 1 in full, and of segment 2 pieces up to an offset.
func withPieces(t *testing.T, s repo.Store, o *repo.Options, cuts ...int) *wal.Archive {
	t.Helper()
	a := openArchive(t, s, o)
	require.NoError(t, push(t, a, segment(1).Name(), noisy(segment(1))))
	from := 0
	for _, to := range cuts {
		require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), from, to, noisy(segment(2))))
		from = to
	}
	return a
}

// cutOff is what is to be seen of segment 2 when it is held up to an offset.
func cutOff(end int) []byte {
	b := noisy(segment(2))
	clear(b[end:])
	return b
}

func TestFetchPutsPiecesTogether(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := repotest.Mem(nil)
			a := withPieces(t, s, options(t, kind), 70_000, 150_000, 150_001)
			require.Equal(t, digest(cutOff(150_001)), digest(read(t, a, segment(2).Name())))
			dst := filepath.Join(t.TempDir(), "RECOVERYXLOG")
			require.NoError(t, a.Fetch(t.Context(), segment(2).Name(), dst))
			got, err := os.ReadFile(dst)
			require.NoError(t, err)
			require.True(t, bytes.Equal(cutOff(150_001), got))
			c, err := a.Coverage(t.Context())
			require.NoError(t, err)
			require.Equal(t, &wal.Partial{Segment: segment(2), End: segment(2).Start() + 150_001}, c.Timeline(1).Partial)
			require.Equal(t, 1, c.Timeline(1).Segments)
			require.False(t, c.Holds(segment(2)))

			// The same again is success, something else is not, and neither is anything that is not a piece.
			require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), 0, 70_000, noisy(segment(2))))
			var conflict *wal.ConflictError
			require.ErrorAs(t, wal.PutPiece(t.Context(), a, segment(2), 0, 70_000, noisy(segment(3))), &conflict)

			// Nothing leads to what comes after a gap, and other names have no pieces.
			require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), 200_000, 300_000, noisy(segment(2))))
			require.NoError(t, wal.PutPiece(t.Context(), a, segment(3), 100, 300_000, noisy(segment(3))))
			require.Equal(t, digest(cutOff(150_001)), digest(read(t, a, segment(2).Name())))
			for _, name := range []string{segment(3).Name(), segment(2).Name() + ".partial", "00000002.history", segment(2).On(2).Name()} {
				require.ErrorIs(t, a.Read(t.Context(), name, &bytes.Buffer{}), fs.ErrNotExist, name)
			}

			// With a later segment it is a hole.
			require.NoError(t, push(t, a, segment(256).Name(), content(segment(256))))
			require.ErrorIs(t, a.Read(t.Context(), segment(2).Name(), &bytes.Buffer{}), fs.ErrNotExist)
			c, err = a.Coverage(t.Context())
			require.NoError(t, err)
			require.Nil(t, c.Timeline(1).Partial)
			// Once it is archived itself, pieces are of no account.
			require.NoError(t, push(t, a, segment(2).Name(), noisy(segment(2))))
			requireHeld(t, a, segment(2).Name(), noisy(segment(2)))
		})
	}
}

// TestPiecesGoWhileTheyAreRead: at any request, longer pieces or the whole segment take the place of pieces.
func TestPiecesGoWhileTheyAreRead(t *testing.T) {
	for nth := 1; ; nth++ {
		for _, whole := range []bool{false, true} {
			s := repotest.Mem(nil)
			withPieces(t, s, nil, 70_000, 150_000)
			var calls atomic.Int64
			done := false
			sound := openArchive(t, s, nil)
			replace := func() {
				if whole {
					require.NoError(t, push(t, sound, segment(2).Name(), noisy(segment(2))))
				} else {
					require.NoError(t, wal.PutPiece(t.Context(), sound, segment(2), 0, 200_000, noisy(segment(2))))
				}
				for _, key := range objects(t, s, "pieces/") {
					if whole || filepath.Base(key)[9:] != fmt.Sprintf("%08x", 200_000) {
						require.NoError(t, s.Delete(t.Context(), key))
					}
				}
			}
			a, err := reopenArchive(t, repo.Observe(s, func(repo.Op) {
				if calls.Add(1) == int64(nth) {
					done = true
					replace()
				}
			}), nil)
			require.NoError(t, err)
			got := read(t, a, segment(2).Name())
			if !done {
				require.Greater(t, nth, 5)
				return
			}
			require.Contains(t, [][32]byte{digest(cutOff(150_000)), digest(cutOff(200_000)), digest(noisy(segment(2)))}, digest(got), "%d", nth)
		}
	}
}

func TestPiecesDoNotGuess(t *testing.T) {
	s := repotest.Mem(nil)
	withPieces(t, s, nil, 70_000, 150_000)
	pieces := objects(t, s, "pieces/")
	require.Len(t, pieces, 2)
	for name, fault := range map[string]repotest.Fault{
		"the list fails":                  {Op: repotest.OpList},
		"the list of segments fails":      {Op: repotest.OpList, Key: "wal/*/*/*/"},
		"a piece cannot be read":          {Op: repotest.OpOpen, Key: pieces[1]},
		"a piece breaks off":              {Op: repotest.OpOpen, Key: pieces[1], Do: repotest.Cut(5000)},
		"the first is damaged":            {Op: repotest.OpOpen, Key: pieces[0], Do: repotest.Flip(5000)},
		"a piece is gone, time and again": {Op: repotest.OpOpen, Key: pieces[1], Do: repotest.Fail(fs.ErrNotExist)},
	} {
		a, err := reopenArchive(t, repotest.Faulty(s, fault), nil)
		require.NoError(t, err)
		requireNoAnswer(t, a.Read(t.Context(), segment(2).Name(), &bytes.Buffer{}), name)
	}
	// One that lies under another's name.
	other := copyStore(t, s, func(key string) string {
		if key == pieces[1] {
			return ""
		}
		return key
	})
	writeObject(t, other, pieces[1], readObject(t, s, pieces[0]))
	a, err := reopenArchive(t, other, nil)
	require.NoError(t, err)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, a.Read(t.Context(), segment(2).Name(), &bytes.Buffer{}), &corrupt)
}

func TestKeysOfPieces(t *testing.T) {
	prefix := fmt.Sprintf("pieces/%d/", uint64(systemID))
	good := prefix + "000000010000000000000002/00000000-00010000"
	got, err := wal.ParsePieceKey(cluster, good)
	require.NoError(t, err)
	require.Equal(t, good, got)
	for _, bad := range []string{
		"", "x", "000000010000000000000002/", "000000010000000000000002/0-1", "000000010000000000000002/00000000-00000000",
		"000000010000000000000002/00000002-00000001", "000000010000000000000002/00000000-00100001",
		"000000010000000000000002/0000000A-0000000B", "000000010000000000000002.partial/00000000-00010000",
		"000000010000000000000002/00000000-00010000/x", "x/00000000-00010000", "000000010000000000000002/00000000-000000010",
	} {
		_, err := wal.ParsePieceKey(cluster, prefix+bad)
		var e *wal.NameError
		require.ErrorAs(t, err, &e, bad)
	}
}

// TestGoldenPieces reads pieces as they were once written.
func TestGoldenPieces(t *testing.T) {
	const dir = "testdata/golden-pieces"
	end := 100_000
	if *update {
		require.NoError(t, os.RemoveAll(dir))
		for _, kind := range kinds {
			s, err := repo.OpenDir(filepath.Join(dir, kind), nil)
			require.NoError(t, err)
			a := openArchive(t, s, goldenOptions(t, kind))
			require.NoError(t, a.Claim(t.Context(), "me", cluster))
			for _, cut := range [][2]int{{0, 70_000}, {70_000, end}, {70_000, 90_000}} {
				require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), cut[0], cut[1], content(segment(2))))
			}
		}
	}
	want := content(segment(2))
	clear(want[end:])
	for _, kind := range kinds {
		copied := filepath.Join(t.TempDir(), kind)
		require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Join(dir, kind))))
		s, err := repo.OpenDir(copied, &repo.DirOptions{MustExist: true})
		require.NoError(t, err)
		require.Len(t, objects(t, s, "pieces/"), 3)
		a, err := reopenArchive(t, s, goldenOptions(t, kind))
		require.NoError(t, err)
		require.Equal(t, digest(want), digest(read(t, a, segment(2).Name())))
		require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), 0, 70_000, content(segment(2))), "the same is still the same")
	}
}

func TestWhereToStart(t *testing.T) {
	size := uint32(wal.MinSegmentSize)
	held := func(partial *wal.Partial, ranges ...wal.Range) *wal.TimelineCoverage {
		return &wal.TimelineCoverage{Partial: partial, Ranges: ranges}
	}
	run := func(first, last wal.Segment) wal.Range { return wal.Range{First: first, Last: last} }
	part := func(s wal.Segment, n int) *wal.Partial { return &wal.Partial{Segment: s, End: s.Start() + wal.LSN(n)} }
	two := wal.History{Timeline: 2, Forks: []wal.Fork{{Timeline: 1, At: lsn(7, 100)}}}
	edge := wal.History{Timeline: 2, Forks: []wal.Fork{{Timeline: 1, At: lsn(7, 0)}}}
	one := wal.History{Timeline: 1}
	for _, c := range []struct {
		name string
		held map[wal.Timeline]*wal.TimelineCoverage
		h    wal.History
		slot wal.LSN
		want wal.Segment
	}{
		{"nothing yet", nil, one, 0, segment(9)},
		{"nothing yet, on a later timeline", nil, two, 0, segment(9).On(2)},
		{"nothing yet, a slot", nil, one, lsn(4, 5), segment(4)},
		{"nothing yet, a slot on the timeline before", nil, two, lsn(4, 5), segment(4)},
		{"after what is held", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(5)))}, one, 0, segment(6)},
		{"pieces", map[wal.Timeline]*wal.TimelineCoverage{1: held(part(segment(6), 50), run(segment(2), segment(5)))}, one, 0, segment(6)},
		{"pieces only", map[wal.Timeline]*wal.TimelineCoverage{1: held(part(segment(6), 50))}, one, 0, segment(6)},
		{"a slot behind", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(5)))}, one, lsn(3, 5), segment(6)},
		{"a slot behind a hole", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(3)), run(segment(5), segment(6)))}, one, lsn(3, 5), segment(4)},
		{"a slot after a hole", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(3)), run(segment(5), segment(6)))}, one, lsn(5, 5), segment(7)},
		{"a slot ahead", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(3)))}, one, lsn(8, 5), segment(4)},
		{"the parent is not complete", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(5)))}, two, 0, segment(6)},
		{"its last segment", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(6)))}, two, 0, segment(7)},
		{"pieces up to the fork", map[wal.Timeline]*wal.TimelineCoverage{1: held(part(segment(7), 100), run(segment(2), segment(6)))}, two, 0, segment(7).On(2)},
		{"pieces beyond the fork", map[wal.Timeline]*wal.TimelineCoverage{1: held(part(segment(7), 300), run(segment(2), segment(6)))}, two, lsn(7, 90), segment(7).On(2)},
		{"segments beyond the fork", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(8)))}, two, lsn(7, 90), segment(7).On(2)},
		{"a fork at the edge", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(6)))}, edge, 0, segment(7).On(2)},
		{"on the new timeline", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(6))), 2: held(nil, run(segment(7).On(2), segment(7).On(2)))}, two, lsn(6, 3), segment(8).On(2)},
		{"a timeline of another's", map[wal.Timeline]*wal.TimelineCoverage{1: held(nil, run(segment(2), segment(5))), 3: held(nil, run(segment(7).On(3), segment(9).On(3)))}, one, 0, segment(6)},
	} {
		cover := wal.Coverage{System: cluster}
		for _, tl := range []wal.Timeline{1, 2, 3} {
			if tc := c.held[tl]; tc != nil {
				tc.Timeline = tl
				cover.Timelines = append(cover.Timelines, *tc)
			}
		}
		require.Equal(t, c.want, wal.StartAt(cover, c.h, c.slot, lsn(9, 77), size), c.name)
	}
}

func TestReceiveRefuses(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	for name, o := range map[string]wal.ReceiveOptions{
		"a bad slot": {Slot: "No"}, "a slot without a name": {CreateSlot: true}, "negative": {FlushBytes: -1}, "a negative time": {Timeout: -1},
	} {
		require.Error(t, a.Receive(t.Context(), "", &o), name)
	}
	err := a.Receive(t.Context(), "host=x password='secret word' port=nonsense", nil)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, a.Receive(ctx, "host=/nonexistent user=x", nil), "told to end before it has begun")
}
