package wal_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// beginning is segment 2 up to an offset, and zeros.
func beginning(end int) []byte {
	b := content(segment(2))
	clear(b[end:])
	return b
}

// withSwitch is segment 2 whose records end in a switch.
func withSwitch() []byte {
	l := waltest.NewLog(segment(2), systemID, 18)
	l.Append(waltest.Noop(strings.Repeat("something ", 5000)))
	l.Switch()
	return l.Segment(segment(2))
}

// A standby with archive_mode = always is given a segment of which there are pieces, and archives what it was given.
func TestPushOfAPart(t *testing.T) {
	s := repotest.Mem(nil)
	a := openArchive(t, s, nil)
	whole := content(segment(2))
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), 0, 70_000, whole))
	given := read(t, a, segment(2).Name())
	var refused *wal.SegmentError
	require.ErrorAs(t, push(t, a, segment(2).Name(), given), &refused)
	require.True(t, lacks(t, s, 2))
	require.NoError(t, push(t, a, segment(2).Name(), whole), "the primary's is taken")
	requireHeld(t, a, segment(2).Name(), whole)
}

// overwritten is segment 2 of a server that has crashed while a record was written that had begun in segment 1: it goes
// on behind the page that it had come to, and ends the segment by a switch.
func overwritten(t *testing.T) []byte {
	t.Helper()
	const page = 8192
	lost := waltest.NewLog(segment(1), systemID, 18)
	for lost.Next() < segment(2).Start()-page {
		lost.Append(waltest.Noop("something"))
	}
	lost.Append(waltest.Noop(strings.Repeat("a long record", 4*page/13)))
	for n := page - 200; n < page; n++ { // until a record fills the first page
		l := waltest.NewLog(segment(2), systemID, 18)
		if l.Append(waltest.Noop(strings.Repeat("x", n))); l.Next()-segment(2).Start() < page {
			continue
		}
		l.Append(waltest.Noop("something"))
		l.Switch()
		b := l.Segment(segment(2))
		if b[page+2]&1 != 0 { // a rest is in the second
			continue
		}
		b[page+2] |= 8 // XLP_FIRST_IS_OVERWRITE_CONTRECORD
		copy(b[:page], lost.Segment(segment(2))[:page])
		return b
	}
	t.Fatal("no record fills a page")
	return nil
}

// What a primary has completed is never refused, whatever its records are: archiving would stop there for good.
func TestPushOfWhatWillNotBecomeBetter(t *testing.T) {
	damaged := withSwitch()
	damaged[20_000] ^= 1
	for name, b := range map[string][]byte{"a record that was never ended": overwritten(t), "damage": damaged} {
		t.Run(name, func(t *testing.T) {
			s := repotest.Mem(nil)
			a := openArchive(t, s, nil)
			require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
			require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), 0, 10_000, b))
			require.NoError(t, push(t, a, segment(2).Name(), b))
		})
	}
	whole, err := wal.Switched(segment(2), bytes.NewReader(overwritten(t)))
	require.NoError(t, err)
	require.True(t, whole)
}

func TestPushOfWhatIsNotComplete(t *testing.T) {
	fork := func(t wal.Timeline, n uint64) wal.Fork { return wal.Fork{Timeline: t, At: segment(n).Start() + 70_000} }
	name := segment(2).Name()
	for _, c := range []struct {
		name      string
		kind      string // of repository, plain unless said
		file      string // name of what is pushed, segment 2 unless said
		content   []byte
		pieces    []int // up to where they reach
		histories map[string][]byte
		local     map[string][]byte // histories in pg_wal
		refused   bool
	}{
		{name: "just the pieces", content: beginning(70_000), pieces: []int{50_000, 70_000}, refused: true},
		{name: "more is in pieces", content: beginning(70_000), pieces: []int{90_000}, refused: true},
		{name: "more than is in pieces", content: beginning(300_000), pieces: []int{70_000}, refused: true},
		{name: "up to a page", content: beginning(8 * 8192), pieces: []int{70_000}, refused: true},
		{name: "all but a page", content: beginning(wal.MinSegmentSize - 8192), pieces: []int{70_000}, refused: true},
		{name: "no pieces", content: beginning(70_000)},
		{name: "complete", content: content(segment(2)), pieces: []int{70_000}},
		{name: "a switch", content: withSwitch(), pieces: []int{40_000}},
		{name: "a .partial file", file: name + ".partial", content: beginning(70_000), pieces: []int{70_000}},
		{
			name: "the timeline was left in it", content: beginning(70_000), pieces: []int{70_000},
			histories: map[string][]byte{"00000002.history": waltest.History(fork(1, 2))},
		},
		{
			name: "it was left in it, as this host cannot read", kind: "encrypted", content: beginning(70_000), pieces: []int{70_000},
			histories: map[string][]byte{"00000002.history": waltest.History(fork(1, 2))},
		},
		{
			name: "it was left in it, as pg_wal tells", content: beginning(70_000), pieces: []int{70_000},
			local: map[string][]byte{"00000002.history": waltest.History(fork(1, 2))},
		},
		{
			name: "it was left in it, and long before", content: beginning(70_000), pieces: []int{70_000},
			histories: map[string][]byte{"00000002.history": waltest.History(fork(1, 1)), "00000003.history": waltest.History(fork(1, 2))},
		},
		{
			name: "it was left long before", content: beginning(70_000), pieces: []int{70_000}, refused: true,
			histories: map[string][]byte{"00000002.history": waltest.History(fork(1, 1))},
		},
		{
			name: "it was left later", content: beginning(70_000), pieces: []int{70_000}, refused: true,
			histories: map[string][]byte{"00000002.history": waltest.History(fork(1, 3))},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := (*repo.Options)(nil)
			if c.kind != "" {
				o = &repo.Options{Cipher: cipher(t, "")}
			}
			s := repotest.Mem(nil)
			a := openArchive(t, s, o)
			require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
			from := 0
			for _, to := range c.pieces {
				require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), from, to, content(segment(2))))
				from = to
			}
			for name, text := range c.histories {
				require.NoError(t, push(t, a, name, text))
			}
			if c.file == "" {
				c.file = name
			}
			p := newPgwal(t)
			p.ready(t, c.file, c.content)
			for name, text := range c.local {
				p.ready(t, name, text)
			}
			err := a.Push(t.Context(), p.path(c.file))
			has, herr := a.Has(t.Context(), parseName(t, c.file))
			require.NoError(t, herr)
			require.Equal(t, c.refused, !has)
			var refused *wal.SegmentError
			if c.refused {
				require.ErrorAs(t, err, &refused)
				require.NoError(t, push(t, a, name, content(segment(2))))
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// Complete segments cost no question about pieces.
func TestPushOfCompleteSegmentsAsksForNoPieces(t *testing.T) {
	asked := 0
	s := heldSegments(t, 1, 2)
	a := openArchive(t, repo.Observe(s, func(op repo.Op) {
		if strings.HasPrefix(op.Key, "pieces/") {
			asked++
		}
	}), nil)
	require.NoError(t, push(t, a, segment(2).Name(), withSwitch()))
	require.NoError(t, push(t, a, segment(3).Name(), content(segment(3))))
	require.Zero(t, asked)
}

// What another archive holds as it is may be the end of a timeline, whose history has not come yet.
func TestHealBringsTheEndOfATimeline(t *testing.T) {
	far := recent()
	a, b := openArchive(t, recent(), nil), openArchive(t, far, nil)
	for _, x := range []*wal.Archive{a, b} {
		require.NoError(t, push(t, x, segment(1).Name(), content(segment(1))))
		require.NoError(t, wal.PutPiece(t.Context(), x, segment(2), 0, 70_000, content(segment(2))))
	}
	require.NoError(t, push(t, a, "00000002.history", waltest.History(wal.Fork{Timeline: 1, At: segment(2).Start() + 70_000})))
	require.NoError(t, push(t, a, segment(2).Name(), beginning(70_000)))
	failing := repotest.Faulty(far, repotest.Fault{Op: repotest.OpCreate, Key: "wal/*/00000002.history"})
	healed, err := join(t, nil, opened("a", a), memberOf("b", failing)).Heal(t.Context(), nil)
	require.ErrorIs(t, err, repotest.ErrInjected)
	require.Equal(t, 1, healed[1].Brought)
	requireHeld(t, b, segment(2).Name(), beginning(70_000))
}
