package drill_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// moments is how many random moments are drilled.
var moments = flag.Int("moments", 3, "drill so many random moments")

// TestTargets drills to every kind of target, and finds the server there.
func TestTargets(t *testing.T) {
	t.Parallel()
	s := newCluster(t, &pgtest.Options{Conf: map[string]string{"track_commit_timestamp": "on"}}, false)
	s.backUp(t)
	conn := s.c.Connect(t)
	var xid int64
	require.NoError(t, conn.QueryRow(t.Context(), `insert into orders values (201, '') returning txid_current()`).Scan(&xid))
	var lsnText string
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `insert into orders values (202, '')`)
		require.NoError(t, err)
		return tx.QueryRow(t.Context(), `select pg_current_wal_insert_lsn()::text`).Scan(&lsnText) // where the commit is going to be
	}))
	lsn, err := wal.ParseLSN(lsnText)
	require.NoError(t, err)
	var third int64
	require.NoError(t, conn.QueryRow(t.Context(), `insert into orders values (203, '') returning txid_current()`).Scan(&third))
	at := pgtest.Value[time.Time](t, s.c, `select pg_xact_commit_timestamp($1::text::xid)`, strconv.FormatInt(third, 10))
	const name = "the \"point\" isn't\nhere"
	_, err = conn.Exec(t.Context(), `insert into orders values (204, '')`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `select pg_create_restore_point($1)`, name)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `insert into orders values (205, '')`)
	require.NoError(t, err)
	s.archive(t)

	for _, tt := range []struct {
		name    string
		target  restore.Target
		action  restore.Action
		rows    string
		stopped string
	}{
		{"immediate", restore.Immediate(), "", "200", ""},
		{"before a transaction", restore.AtXID(uint64(xid)).Before(), "", "200", "before commit of transaction"},
		{"transaction", restore.AtXID(uint64(xid)), "", "201", "after commit of transaction"},
		{"before a position", restore.AtLSN(lsn).Before(), "", "201", "before WAL location"},
		{"position", restore.AtLSN(lsn), "", "202", "after WAL location"},
		{"before a time", restore.AtTime(at).Before(), "", "202", "before commit of transaction"},
		{"time", restore.AtTime(at), "", "203", "before commit of transaction"},
		{"name", restore.AtName(name), "", "204", "at restore point"},
		{"latest", restore.Latest(), "", "205", ""},
		{"paused at a time", restore.AtTime(at), restore.Pause, "203", "before commit of transaction"},
		{"paused at the consistent state", restore.Immediate(), restore.Pause, "200", "after reaching consistency"},
		{"paused nowhere", restore.Latest(), restore.Pause, "205", ""},
		{"shut down at a name", restore.AtName(name), restore.Shutdown, "", "at restore point"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := s.options(t)
			o.Restore = &restore.Options{Action: tt.action}
			if tt.rows != "" {
				o.Checks = []drill.Check{{SQL: `select count(*) from orders`, Want: [][]string{{tt.rows}}}}
			}
			if tt.action == restore.Pause && tt.target != restore.Latest() {
				o.Checks = append(o.Checks, drill.Check{SQL: `select pg_is_in_recovery()`})
			}
			r, err := s.run(t, tt.target, o)
			require.NoError(t, err)
			require.Contains(t, r.Stopped, tt.stopped)
			if tt.action == restore.Shutdown {
				require.Nil(t, r.RecoveredTo)
				return
			}
			require.GreaterOrEqual(t, r.RecoveredTo.LSN, s.m.StopLSN)
			if tt.target == restore.AtTime(at) {
				require.Equal(t, restore.AtTime(at).Time, r.RecoveredTo.Time)
			}
		})
	}
}

// TestOldLayout drills a backup without postgresql.conf, which Debian keeps elsewhere, of a cluster with settings that are
// higher than the defaults and have to be in recovery, on both servers that react in different ways to lower ones.
func TestOldLayout(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, pgtest.Newest()} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			s := newCluster(t, &pgtest.Options{Major: major, Conf: map[string]string{
				"max_connections": "200", "max_worker_processes": "20", "max_wal_senders": "30", "max_prepared_transactions": "10",
				"max_locks_per_transaction": "100",
			}}, false)
			require.NoError(t, os.Remove(filepath.Join(s.c.Data, "postgresql.conf")))
			s.backUp(t)
			s.archive(t)
			for _, action := range []restore.Action{restore.Promote, restore.Pause} {
				o := s.options(t)
				o.Restore = &restore.Options{Action: action}
				o.Checks = []drill.Check{{SQL: `select count(*) = 200 from orders`}}
				_, err := s.run(t, restore.Immediate(), o)
				require.NoError(t, err)
			}
		})
	}
}

// TestRandom drills random backups and moments, each of which works.
func TestRandom(t *testing.T) {
	t.Parallel()
	s := newCluster(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize}, false)
	for range 2 {
		s.backUp(t)
		s.c.Exec(t, `insert into orders select i, repeat('x', 1000) from generate_series((select max(id) + 1 from orders), (select max(id) + 4000 from orders)) i`)
		s.archive(t)
	}
	backups, err := backup.List(t.Context(), s.r)
	require.NoError(t, err)
	archive, err := wal.NewArchive(s.r, nil)
	require.NoError(t, err)
	held, err := archive.Coverage(t.Context())
	require.NoError(t, err)
	require.NoError(t, archive.Times(t.Context(), &held))
	random := rand.New(rand.NewPCG(1, 1))
	for n := range 1000 {
		target, po, err := drill.RandomMoment(backups, held, random)
		require.NoError(t, err)
		if n%10 == 0 {
			target, po, err = drill.RandomBackup(backups, random)
			require.NoError(t, err)
		}
		_, err = restore.NewPlan(backups, held, target, po)
		require.NoError(t, err, "%s", target)
		if n < *moments {
			o := s.options(t)
			o.Plan = po
			_, err := s.run(t, target, o)
			require.NoError(t, err, "%s", target)
		}
	}
}

// Where there is nothing, nothing can be chosen.
func TestRandomOfNothing(t *testing.T) {
	t.Parallel()
	_, _, err := drill.RandomBackup(nil, rand.New(rand.NewPCG(1, 1)))
	require.ErrorIs(t, err, drill.ErrNothing)
	_, _, err = drill.RandomMoment(nil, wal.Coverage{}, rand.New(rand.NewPCG(1, 1)))
	require.ErrorIs(t, err, drill.ErrNothing)
}
