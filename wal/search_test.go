package wal_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// search collects what is found.
func search(t *testing.T, a *wal.Archive, q wal.Query) []wal.Event {
	t.Helper()
	var all []wal.Event
	for e, err := range a.Search(t.Context(), q) {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

// TestSearchOfARealArchive finds what a server did on three timelines, and when.
func TestSearchOfARealArchive(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, pgtest.Newest()} {
		archived := pgtest.Dir(t)
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
			"archive_mode": "on", "archive_command": "cp %p " + archived + "/%f", "autovacuum": "off", "wal_init_zero": "off",
			"track_commit_timestamp": "on", "max_prepared_transactions": "5",
		}})
		first := pgtest.Value[int64](t, c, "SELECT txid_current()")
		c.Exec(t, "CREATE TABLE kept (x int)", "CREATE TABLE lost (x int)", "INSERT INTO lost SELECT generate_series(1, 20000)",
			"SELECT pg_create_restore_point('before the accident')")
		lost := pgtest.Value[int64](t, c, "SELECT pg_relation_filenode('lost')::bigint")
		dropped := pgtest.Value[string](t, c, "WITH x AS (SELECT txid_current()::text AS xid) SELECT xid FROM x")
		c.Exec(t, "DROP TABLE lost", "SELECT pg_switch_wal()")
		between := pgtest.Value[time.Time](t, c, "SELECT clock_timestamp()")
		promote(t, c)
		for range 300 {
			c.Exec(t, "INSERT INTO kept SELECT generate_series(1, 100)")
		}
		c.Exec(t, "DELETE FROM kept", "VACUUM kept", "SELECT pg_switch_wal()")
		promote(t, c)
		c.Exec(t, "INSERT INTO kept VALUES (4)", "SELECT pg_switch_wal()", "SELECT pg_create_restore_point('at the end')", "SELECT pg_switch_wal()")
		want := commitTimes(t, c, first)
		c.Stop(t)

		store := repotest.Mem(nil)
		a := openArchive(t, store, nil)
		files, err := filepath.Glob(filepath.Join(archived, "*"))
		require.NoError(t, err)
		slices.SortFunc(files, func(x, y string) int { return len(y) - len(x) }) // histories last
		for _, f := range files {
			if _, err := wal.ParseName(filepath.Base(f)); err == nil {
				require.NoError(t, a.Push(t.Context(), f))
			}
		}
		all := search(t, a, wal.Query{})
		require.True(t, slices.IsSortedFunc(all, func(x, y wal.Event) int { return int(int64(x.LSN) - int64(y.LSN)) }))
		got := map[uint32]time.Time{}
		for _, e := range all {
			require.Less(t, e.Prev, e.LSN)
			require.Less(t, e.LSN, e.End)
			if e.Kind == wal.EventCommit {
				got[e.XID] = e.Time
			}
		}
		for xid, at := range want {
			require.True(t, at.Equal(got[xid]), "%d: %s, want %s", xid, got[xid], at)
		}
		timelines := map[wal.Timeline]bool{}
		for _, e := range all {
			timelines[e.Timeline] = true
		}
		require.Equal(t, map[wal.Timeline]bool{1: true, 2: true, 3: true}, timelines)

		drops := search(t, a, wal.Query{Kinds: []wal.EventKind{wal.EventDrop}, To: between})
		require.NotEmpty(t, drops)
		drop := drops[len(drops)-1]
		require.NotEqual(t, dropped, drop.XID)
		require.Contains(t, numbers(drop.Relations), uint32(lost))
		require.True(t, drop.Time.Equal(want[drop.XID]))
		points := search(t, a, wal.Query{Kinds: []wal.EventKind{wal.EventRestorePoint}})
		require.Len(t, points, 2)
		require.Equal(t, "before the accident", points[0].Name)
		require.Less(t, points[0].LSN, drop.LSN)
		require.Len(t, search(t, a, wal.Query{Kinds: []wal.EventKind{wal.EventRestorePoint}, From: between}), 1)
		require.NotEmpty(t, search(t, a, wal.Query{Kinds: []wal.EventKind{wal.EventTruncate}, From: between}))

		// In a window, the commits of the window, and none of a later timeline on an earlier one.
		for _, q := range []wal.Query{{To: between}, {From: between}, {From: drop.Time, To: drop.Time}} {
			q.Kinds = []wal.EventKind{wal.EventCommit}
			n := 0
			for _, at := range want {
				if (q.From.IsZero() || !at.Before(q.From)) && (q.To.IsZero() || !at.After(q.To)) {
					n++
				}
			}
			found := 0
			for _, e := range search(t, a, q) {
				if _, ours := want[e.XID]; ours {
					found++
				}
			}
			require.Equal(t, n, found, "%+v", q)
			require.NotZero(t, n)
		}
		for _, e := range search(t, a, wal.Query{Timeline: 1}) {
			require.Equal(t, wal.Timeline(1), e.Timeline)
		}
		for range a.Search(t.Context(), wal.Query{}) {
			break
		}
		requireSearchFails(t, store)
	}
}

// commitTimes are the times that the server remembers of its commits.
func commitTimes(t *testing.T, c *pgtest.Cluster, first int64) map[uint32]time.Time {
	t.Helper()
	rows, err := c.Connect(t).Query(t.Context(), `SELECT x, pg_xact_commit_timestamp(x::text::xid)
		FROM generate_series($1, (SELECT (pg_last_committed_xact()).xid::text::bigint)) x`, first)
	require.NoError(t, err)
	defer rows.Close()
	all := map[uint32]time.Time{}
	for rows.Next() {
		var xid int64
		var at *time.Time
		require.NoError(t, rows.Scan(&xid, &at))
		if at != nil {
			all[uint32(xid)] = *at
		}
	}
	require.NoError(t, rows.Err())
	require.Greater(t, len(all), 300)
	return all
}

func numbers(all []wal.Relation) []uint32 {
	var n []uint32
	for _, r := range all {
		n = append(n, r.Number)
	}
	return n
}

// requireSearchFails: a store that fails is no end of the search without a word.
func requireSearchFails(t *testing.T, store repo.Store) {
	t.Helper()
	broken := errors.New("broken")
	for _, f := range []repotest.Fault{
		{Op: repotest.OpList, Key: "wal/*/", Do: repotest.Fail(broken)},
		{Op: repotest.OpStat, Key: "wal/*/*/*/*", Nth: 5, Do: repotest.Fail(broken)},
		{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Nth: 9, Do: repotest.Fail(broken)},
	} {
		var failed error
		for _, err := range openArchive(t, repotest.Faulty(store, f), nil).Search(t.Context(), wal.Query{}) {
			require.NoError(t, failed, "nothing after an error")
			failed = err
		}
		require.ErrorIs(t, failed, broken, "%v", f)
		requireNoAnswer(t, failed)
	}
}

func TestSearchOfNothing(t *testing.T) {
	t.Parallel()
	a := openArchive(t, repotest.Mem(nil), nil)
	require.Empty(t, search(t, a, wal.Query{}))
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	require.Empty(t, search(t, a, wal.Query{}))
	for _, err := range a.Search(t.Context(), wal.Query{Timeline: 7}) {
		require.ErrorContains(t, err, "00000007.history")
	}
}
