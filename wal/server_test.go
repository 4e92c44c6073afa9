package wal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// segmentSizes in MiB: the default, the smallest, and a large one.
var segmentSizes = map[int]int64{13: 16, 14: 1, 15: 64, 16: 1, 17: 16, 18: 1}

// promote restarts a server as a standby of nobody and promotes it: a new timeline begins.
func promote(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Stop(t)
	require.NoError(t, os.WriteFile(filepath.Join(c.Data, "standby.signal"), nil, 0o644))
	pgtest.Own(t, c.Data)
	c.StartStandby(t)
	c.Exec(t, "SELECT pg_promote()", "CHECKPOINT")
}

// TestServersFiles archives what the archive_command of a real server is given.
func TestServersFiles(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		archive := pgtest.Dir(t)
		size := segmentSizes[major] << 20
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: size, Conf: map[string]string{
			"archive_mode": "on", "archive_command": "cp --sparse=always %p " + archive + "/%f", "autovacuum": "off",
			"wal_init_zero": "off", "min_wal_size": fmt.Sprintf("%dMB", 5*size>>20),
		}})
		requireWalfileNames(t, c, uint32(size))
		takeNotes(t, c)
		c.Exec(t, "CREATE TABLE t AS SELECT generate_series(1, 1000)", "SELECT pg_switch_wal()", "CHECKPOINT")
		sys := wal.System{ID: uint64(pgtest.Value[int64](t, c, "SELECT system_identifier FROM pg_control_system()")), SegmentSize: uint32(size)}
		promote(t, c)
		c.Exec(t, "INSERT INTO t VALUES (3)", "SELECT pg_switch_wal()")
		promote(t, c)
		c.Exec(t, "INSERT INTO t VALUES (4)", "SELECT pg_switch_wal()")
		c.Stop(t)
		requireArchived(t, c, archive, sys)
		requireRecycledRefused(t, c, sys)
		requireHistoryClaims(t, c, archive, sys)
	})
}

// requireWalfileNames compares our names with the server's.
func requireWalfileNames(t *testing.T, c *pgtest.Cluster, size uint32) {
	t.Helper()
	conn := c.Connect(t)
	for _, at := range []wal.LSN{1, 0xFFFFFF, 0x1000001, 0x16_B374D848, 0xFFFFFFF1, 0x1_00000001, 0xFFFFFFFF_00000001, 0xFFFFFFFF_FFFFFFF0} {
		var want string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_walfile_name($1::text::pg_lsn)", at.String()).Scan(&want))
		require.Equal(t, want, wal.SegmentAt(1, at, size).Name(), "%s", at)
	}
}

// takeNotes makes the server write a .backup file.
func takeNotes(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	start, stop := "pg_backup_start('notes', true)", "pg_backup_stop(false)"
	if c.Major < 15 {
		start, stop = "pg_start_backup('notes', true, false)", "pg_stop_backup(false, false)"
	}
	conn := c.Connect(t)
	for _, f := range []string{start, stop} {
		_, err := conn.Exec(t.Context(), "SELECT "+f, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
}

func requireArchived(t *testing.T, c *pgtest.Cluster, archive string, sys wal.System) {
	t.Helper()
	a := openArchive(t, repotest.Mem(nil), nil)
	entries, err := os.ReadDir(archive)
	require.NoError(t, err)
	seen := map[wal.Kind]int{}
	var names strings.Builder
	for _, e := range entries {
		n := parseName(t, e.Name())
		seen[n.Kind]++
		names.WriteString(e.Name() + "\n")
		path := filepath.Join(archive, e.Name())
		require.NoError(t, a.Push(t.Context(), path), e.Name())
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		if seen[n.Kind] == 1 {
			require.NoError(t, a.Push(t.Context(), path), "%s again", e.Name())
			requireHeld(t, a, e.Name(), b)
		}
		switch n.Kind {
		case wal.KindSegment, wal.KindPartial:
			h, err := wal.ReadHeader(bytes.NewReader(b))
			require.NoError(t, err)
			require.Equal(t, c.Major, h.Major())
			require.Equal(t, sys.ID, h.SystemID)
			require.Equal(t, sys.SegmentSize, h.SegmentSize)
			s, err := n.Segment(sys.SegmentSize)
			require.NoError(t, err)
			require.Equal(t, s.Start(), h.Start)
			keepSeed(t, "header", fmt.Sprintf("pg%d", c.Major), b[:64])
		case wal.KindHistory:
			keepSeed(t, "history", fmt.Sprintf("pg%d-%s", c.Major, e.Name()), b)
		}
	}
	for _, k := range []wal.Kind{wal.KindSegment, wal.KindPartial, wal.KindHistory, wal.KindBackup} {
		require.NotZero(t, seen[k], "kind %d in %s", k, names.String())
	}
	keepSeed(t, "name", fmt.Sprintf("pg%d", c.Major), []byte(names.String()))

	cover, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, sys, cover.System)
	require.Len(t, cover.Timelines, 3)
	for _, tc := range cover.Timelines {
		require.Len(t, tc.Ranges, 1, "timeline %d", tc.Timeline)
	}
	h, ok := cover.History(3)
	require.True(t, ok)
	require.Len(t, h.Forks, 2)
	for _, f := range h.Forks {
		// The segment of the fork is held on the timeline that began there.
		next := h.At(f.At)
		require.Equal(t, f.Timeline+1, next)
		require.True(t, cover.Holds(wal.SegmentAt(next, f.At, sys.SegmentSize)), "%s", f.At)
		require.Equal(t, "no recovery target specified", f.Reason)
	}
}

// requireRecycledRefused pushes the segments that the server keeps for later use.
func requireRecycledRefused(t *testing.T, c *pgtest.Cluster, sys wal.System) {
	t.Helper()
	a := openArchive(t, repotest.Mem(nil), nil)
	require.NoError(t, a.Claim(t.Context(), "me", sys))
	entries, err := os.ReadDir(filepath.Join(c.Data, "pg_wal"))
	require.NoError(t, err)
	recycled := 0
	for _, e := range entries {
		s, err := wal.ParseSegment(e.Name(), sys.SegmentSize)
		if err != nil {
			continue
		}
		path := filepath.Join(c.Data, "pg_wal", e.Name())
		head := make([]byte, 64)
		f, err := os.Open(path)
		require.NoError(t, err)
		_, err = f.Read(head)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		if binary.LittleEndian.Uint64(head[8:]) == uint64(s.Start()) {
			continue // in use
		}
		recycled++
		var refused *wal.SegmentError
		require.ErrorAs(t, a.Push(t.Context(), path), &refused, e.Name())
	}
	require.NotZero(t, recycled, "%v", entries)
}

// requireHistoryClaims pushes a history before anything else, as a promoted standby does into a new repository.
func requireHistoryClaims(t *testing.T, c *pgtest.Cluster, archive string, sys wal.System) {
	t.Helper()
	a := openArchive(t, repotest.Mem(nil), nil)
	require.Error(t, a.Push(t.Context(), filepath.Join(archive, "00000003.history")), "which does not tell whose it is")
	path := filepath.Join(c.Data, "pg_wal", "00000003.history")
	require.NoError(t, a.Push(t.Context(), path))
	got, err := a.System(t.Context())
	require.NoError(t, err)
	require.Equal(t, sys, got)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	requireHeld(t, a, "00000003.history", b)
}

// TestHistoryOfARealRecoveryBeforeItsParentBegan: the target lies on timeline 1, recovery follows timeline 2.
func TestHistoryOfARealRecoveryBeforeItsParentBegan(t *testing.T) {
	t.Parallel()
	archive := pgtest.Dir(t)
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
		"archive_mode": "on", "archive_command": "cp %p " + archive + "/%f",
	}})
	c.Exec(t, "CREATE TABLE t (i int)", "CHECKPOINT")
	c.Stop(t)
	base := pgtest.Copy(t, c.Data)
	c.Start(t)
	c.Exec(t, "INSERT INTO t VALUES (1)")
	target := pgtest.Value[string](t, c, "SELECT pg_current_wal_lsn()::text")
	c.Exec(t, "INSERT INTO t VALUES (2)", "SELECT pg_switch_wal()", "INSERT INTO t VALUES (3)")
	promote(t, c)
	c.Exec(t, "INSERT INTO t VALUES (4)", "SELECT pg_switch_wal()")
	c.Stop(t)

	require.NoError(t, os.WriteFile(filepath.Join(base, "recovery.signal"), nil, 0o644))
	recovered := pgtest.Boot(t, base, c.Major, &pgtest.BootOptions{Conf: map[string]string{
		"restore_command": "cp " + archive + "/%f %p", "recovery_target_timeline": "2", "recovery_target_lsn": target,
		"recovery_target_action": "promote",
	}})
	require.EqualValues(t, 1, pgtest.Value[int64](t, recovered, "SELECT count(*) FROM t"))
	text, err := os.ReadFile(filepath.Join(base, "pg_wal", "00000003.history"))
	require.NoError(t, err)
	keepSeed(t, "history", fmt.Sprintf("pg%dpitr-00000003.history", c.Major), text)

	h, err := wal.ParseHistory(3, text)
	require.NoError(t, err, "%s", text)
	require.Len(t, h.Forks, 1, "%s", text)
	require.Equal(t, wal.Timeline(1), h.Forks[0].Timeline)
	at, err := wal.ParseLSN(target)
	require.NoError(t, err)
	require.GreaterOrEqual(t, h.Forks[0].At, at)
	require.Equal(t, wal.Timeline(1), h.At(at-1))
	require.Equal(t, wal.Timeline(3), h.At(h.Forks[0].At))
	// The server reads it likewise: it continues on timeline 3.
	require.Equal(t, h.At(h.Forks[0].At), wal.Timeline(pgtest.Value[int32](t, recovered, "SELECT timeline_id FROM pg_control_checkpoint()")))
}
