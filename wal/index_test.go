package wal_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

// pages are the first pages of a real segment, and the segment they are of.
func pages(t testing.TB, major string) (wal.Segment, []byte) {
	t.Helper()
	b := seeds(t, "records", "pg*")[major]
	h, err := wal.ReadHeader(bytes.NewReader(b))
	require.NoError(t, err)
	return wal.SegmentAt(h.Timeline, h.Start, h.SegmentSize), b
}

// A segment whose records cannot be read to its end has an index of those before, which says so.
func TestIndexOfADamagedSegment(t *testing.T) {
	t.Parallel()
	s, b := pages(t, "pg18")
	whole, err := wal.IndexSegment(s, bytes.NewReader(b))
	require.NoError(t, err)
	require.Empty(t, whole.Damage)
	require.NotEmpty(t, whole.Events)
	for what, c := range map[string]struct {
		content []byte
		damage  string
		major   int
	}{
		"a flipped bit": {flip(b, walPage+500), "", 18},
		"zeros":         {append(bytes.Clone(b[:walPage]), make([]byte, walPage)...), "ends here", 18},
		"no WAL":        {bytes.Repeat([]byte("no WAL "), 10000), "magic", 0},
	} {
		ix, err := wal.IndexSegment(s, bytes.NewReader(c.content))
		require.NoError(t, err, what)
		require.NotEmpty(t, ix.Damage, what)
		require.Contains(t, ix.Damage, c.damage)
		require.Equal(t, c.major, ix.Major)
		require.Less(t, ix.End, whole.End)
		require.LessOrEqual(t, len(ix.Events), len(whole.Events))
		// Alone, or as the last, it tells what it has. Before another it would leave a hole.
		_, err = wal.Summarize(ix)
		require.NoError(t, err)
		_, err = wal.Summarize(ix, &wal.Index{Segment: s.Next()})
		var e *wal.IndexError
		require.ErrorAs(t, err, &e)
		require.Equal(t, &wal.IndexError{Segment: s, At: ix.End, Reason: ix.Damage}, e)
		require.ErrorContains(t, err, s.Name())
	}
	broken := errors.New("broken")
	_, err = wal.IndexSegment(s, iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestSummarizeRefusesGaps(t *testing.T) {
	t.Parallel()
	s, b := pages(t, "pg17")
	ix, err := wal.IndexSegment(s, bytes.NewReader(b[:walPage]))
	require.NoError(t, err)
	for what, next := range map[string]wal.Segment{"itself": s, "one is missing": s.Next().Next(), "another timeline": s.Next().On(7)} {
		_, err := wal.Summarize(ix, &wal.Index{Segment: next})
		require.ErrorContains(t, err, "does not follow", what)
	}
	none, err := wal.Summarize()
	require.NoError(t, err)
	require.Equal(t, &wal.Summary{}, none)
}

// A record that goes on in the next segment has to, with the right bytes.
func TestSummarizeChecksWhatCrosses(t *testing.T) {
	t.Parallel()
	s, b := pages(t, "pg16")
	crossing := 0
	for at := walPage; at < len(b); at += walPage {
		first, err := wal.IndexSegment(s, bytes.NewReader(b[:at]))
		require.NoError(t, err)
		alone, err := wal.Summarize(first)
		require.NoError(t, err)
		// As if nothing of the record were in the next segment.
		both, err := wal.Summarize(first, &wal.Index{Segment: s.Next(), End: s.Next().End()})
		if alone.To == first.End { // no record goes on
			require.NoError(t, err)
			require.Equal(t, alone.Events, both.Events)
			continue
		}
		crossing++
		var e *wal.IndexError
		require.ErrorAs(t, err, &e)
		require.Equal(t, s.Next(), e.Segment)
		require.Equal(t, alone.To, e.At)
	}
	require.NotZero(t, crossing)
}
