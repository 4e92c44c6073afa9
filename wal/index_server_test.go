package wal_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
)

// indexAll indexes each segment of content by itself.
func indexAll(t *testing.T, content []byte) []*wal.Index {
	t.Helper()
	h, err := wal.ReadHeader(bytes.NewReader(content))
	require.NoError(t, err)
	var all []*wal.Index
	s := wal.SegmentAt(h.Timeline, h.Start, h.SegmentSize)
	for ; len(content) > 0; s = s.Next() {
		ix, err := wal.IndexSegment(s, bytes.NewReader(content[:h.SegmentSize]))
		require.NoError(t, err)
		require.Equal(t, s, ix.Segment)
		require.Equal(t, s.End(), ix.End, "%s", ix.Damage)
		require.Empty(t, ix.Damage)
		b, err := ix.MarshalBinary()
		require.NoError(t, err)
		var back wal.Index
		require.NoError(t, back.UnmarshalBinary(b))
		require.Equal(t, ix, &back)
		all = append(all, &back)
		content = content[h.SegmentSize:]
	}
	return all
}

// TestIndexesEqualTheWhole: what the indexes of single segments tell together is what all records tell.
func TestIndexesEqualTheWhole(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := newMixed(t, major, map[string]string{"full_page_writes": "off"})
		mix(t, c)
		content := liveWAL(t, c)
		got, err := wal.Summarize(indexAll(t, content)...)
		require.NoError(t, err)
		want, err := wal.Replay(content, got.From, got.To)
		require.NoError(t, err)
		requireSameSummary(t, want, got)
		kinds := map[wal.EventKind]bool{}
		for _, e := range got.Events {
			kinds[e.Kind] = true
		}
		require.Subset(t, slices.Collect(maps.Keys(kinds)), []wal.EventKind{
			wal.EventDrop, wal.EventTruncate, wal.EventRestorePoint, wal.EventCheckpoint, wal.EventDatabaseCreate, wal.EventDatabaseDrop,
		})
		require.Greater(t, got.Commits.Count, 30)
		require.WithinDuration(t, time.Now(), got.Commits.Last, time.Minute)
	})
}

func requireSameSummary(t *testing.T, want, got *wal.Summary) {
	t.Helper()
	require.Equal(t, want.Commits, got.Commits)
	require.Equal(t, want.Events, got.Events)
	files := slices.Collect(want.Blocks.Files())
	require.Equal(t, files, slices.Collect(got.Blocks.Files()))
	require.NotEmpty(t, files)
	for _, f := range files {
		limit, cut := want.Blocks.Limit(f)
		gotLimit, gotCut := got.Blocks.Limit(f)
		require.Equal(t, cut, gotCut, "%v", f)
		require.Equal(t, limit, gotLimit, "%v", f)
		require.Equal(t, want.Blocks.Changed(f), got.Blocks.Changed(f), "%v", f)
	}
}

// A record of which a segment has more than 1 MiB is not kept by the indexes, which say so.
func TestIndexesOfAVeryLongRecord(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{SegmentSize: 4 << 20, Conf: map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"}})
	c.Exec(t, "SELECT pg_logical_emit_message(true, 'prefix', repeat('long', 3000000))", "SELECT pg_switch_wal()", "SELECT pg_switch_wal()")
	all := indexAll(t, liveWAL(t, c))
	_, err := wal.Summarize(all...)
	var e *wal.IndexError
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, "too long")
	// Before it and after it they do.
	i := slices.IndexFunc(all, func(ix *wal.Index) bool { return ix.Segment == e.Segment })
	_, err = wal.Summarize(all[:i-1]...)
	require.NoError(t, err)
	_, err = wal.Summarize(all[i+2:]...)
	require.NoError(t, err)
}

// TestBlocksEqualTheServersSummaries compares, as sets, with pg_wal_summary_contents.
func TestBlocksEqualTheServersSummaries(t *testing.T) {
	t.Parallel()
	for _, major := range []int{17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			c := newMixed(t, major, map[string]string{"summarize_wal": "on"})
			mix(t, c)
			c.Exec(t, "INSERT INTO t (a) SELECT 6 FROM generate_series(1, 3000)", "DELETE FROM t WHERE a = 6", "VACUUM t", "CHECKPOINT",
				"SELECT pg_switch_wal()", "CHECKPOINT", "SELECT pg_switch_wal()")
			content := liveWAL(t, c)
			first, err := wal.ReadHeader(bytes.NewReader(content))
			require.NoError(t, err)
			end := first.Start + wal.LSN(len(content))
			require.Eventually(t, func() bool {
				return pgtest.Value[bool](t, c, "SELECT max(end_lsn) >= $1::text::pg_lsn FROM pg_available_wal_summaries()", (end - wal.LSN(first.SegmentSize)).String())
			}, time.Minute, 50*time.Millisecond)
			compared := 0
			for _, r := range summaries(t, c) {
				if r.From < first.Start || r.To > end {
					continue
				}
				s, err := wal.Replay(content, r.From, r.To)
				require.NoError(t, err)
				require.Equal(t, contents(t, c, r), blocksOf(s), "%s to %s", r.From, r.To)
				compared++
			}
			require.Greater(t, compared, 3)
		})
	}
}

// summaries are the stretches that the server has summaries of.
func summaries(t *testing.T, c *pgtest.Cluster) (all []wal.Summary) {
	t.Helper()
	rows, err := c.Connect(t).Query(t.Context(), "SELECT start_lsn::text, end_lsn::text FROM pg_available_wal_summaries() ORDER BY start_lsn")
	require.NoError(t, err)
	var from, to string
	_, err = pgx.ForEachRow(rows, []any{&from, &to}, func() error {
		a, err := wal.ParseLSN(from)
		require.NoError(t, err)
		b, err := wal.ParseLSN(to)
		require.NoError(t, err)
		all = append(all, wal.Summary{From: a, To: b})
		return nil
	})
	require.NoError(t, err)
	return all
}

func contents(t *testing.T, c *pgtest.Cluster, s wal.Summary) (all []string) {
	t.Helper()
	rows, err := c.Connect(t).Query(t.Context(), `SELECT format('%s/%s/%s %s %s %s', reltablespace, reldatabase, relfilenode, relforknumber,
		relblocknumber, CASE WHEN is_limit_block THEN 'limit' ELSE 'block' END) FROM pg_wal_summary_contents(1, $1::text::pg_lsn, $2::text::pg_lsn)`,
		s.From.String(), s.To.String())
	require.NoError(t, err)
	all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	slices.Sort(all)
	return all
}

func blocksOf(s *wal.Summary) []string {
	all := []string{}
	for f := range s.Blocks.Files() {
		if limit, ok := s.Blocks.Limit(f); ok {
			all = append(all, fmt.Sprintf("%s %d %d limit", f.Relation, f.Fork, limit))
		}
		for _, n := range s.Blocks.Changed(f) {
			all = append(all, fmt.Sprintf("%s %d %d block", f.Relation, f.Fork, n))
		}
	}
	slices.Sort(all)
	return all
}
