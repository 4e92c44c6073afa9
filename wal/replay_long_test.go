package wal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// TestReplayOfALongCommit: a commit that drops a great many relations is longer than what an index keeps of a record, or
// than a segment. Recovery ends at it as at any other.
func TestReplayOfALongCommit(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		size      uint32
		before    int // bytes in the segment before the commit
		relations int
	}{
		"kept in part only": {4 << 20, 1 << 20, 300_000},
		"three segments":    {wal.MinSegmentSize, 700_000, 120_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := wal.Segment{Timeline: 1, Number: 5, Size: c.size}
			l := waltest.NewLog(first, systemID, 17)
			from, _ := l.Append(waltest.Commit(700, at))
			for l.Next() < first.Start()+wal.LSN(c.before) {
				l.Append(waltest.Noop(string(make([]byte, 50_000))))
			}
			start, end := l.Append(waltest.Commit(701, at.Add(time.Minute), slices.Repeat([]wal.Relation{{Tablespace: 1663, Database: 5, Number: 16384}}, c.relations)...))
			l.Append(waltest.Commit(702, at.Add(2*time.Minute)))
			last := wal.SegmentAt(1, l.Next(), c.size)
			require.Greater(t, last.Number, first.Number)
			l.Switch()
			l.Append(waltest.Commit(703, at.Add(3*time.Minute)))
			l.Switch()
			a := openArchive(t, repotest.Mem(nil), nil)
			dir := t.TempDir()
			for s := first; s.Number <= last.Number+1; s = s.Next() {
				require.NoError(t, a.Push(t.Context(), place(t, dir, s.Name(), l.Segment(s))))
			}
			cov, err := a.Coverage(t.Context())
			require.NoError(t, err)
			way, _ := cov.Way(1)
			for _, u := range []wal.Until{{XID: 701, Exclusive: true}, {Time: at.Add(time.Second)}} {
				got, err := a.Replay(t.Context(), cov, way, from, u)
				require.NoError(t, err)
				require.True(t, got.Reached)
				require.Equal(t, start, got.To)
				requireCommit(t, 700, got.Last, "%+v", u)
				requireCommit(t, 701, got.Next, "%+v", u)
			}
			got, err := a.Replay(t.Context(), cov, way, from, wal.Until{XID: 701})
			require.NoError(t, err)
			require.True(t, got.Reached)
			require.Equal(t, end, got.To)
			requireCommit(t, 701, got.Last, "it is in")
			requireCommit(t, 702, got.Next, "it is not")
			matches, err := a.Matches(t.Context(), cov, way, wal.Until{XID: 701})
			require.NoError(t, err)
			require.Len(t, matches, 1)
			require.Equal(t, start, matches[0].LSN)
			commits, _, err := a.Following(t.Context(), cov, way, start)
			require.NoError(t, err)
			require.Equal(t, 3, commits.Count)
		})
	}
}
