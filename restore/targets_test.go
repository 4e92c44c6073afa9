package restore_test

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// marks are the numbers that a cluster has in its table of that name.
func marks(t *testing.T, c *pgtest.Cluster) []int32 {
	t.Helper()
	return pgtest.Value[[]int32](t, c, `select coalesce(array_agg(n order by n), '{}') from marks`)
}

// mark adds one.
func mark(t *testing.T, c *pgtest.Cluster, n int) {
	t.Helper()
	c.Exec(t, `insert into marks values (`+strconv.Itoa(n)+`)`)
}

// recovered restores by a plan, and boots the result.
func recovered(t *testing.T, r *repo.Repo, target restore.Target, po *restore.PlanOptions, o *restore.Options, bo *pgtest.BootOptions) *pgtest.Cluster {
	t.Helper()
	p, err := restore.Prepare(t.Context(), r, target, po)
	require.NoError(t, err)
	dir := filepath.Join(pgtest.Dir(t), "data")
	_, err = p.Run(t.Context(), r, dir, o)
	require.NoError(t, err)
	return pgtest.Boot(t, dir, 0, bo)
}

// Every kind of target ends where it says.
func TestTargets(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Conf: map[string]string{
		"archive_mode": "on", "archive_command": "false", "track_commit_timestamp": "on", "autovacuum": "off",
	}})
	r := newRepo(t, false)
	c.Exec(t, `create table marks (n int)`, `create table precious (n int)`)
	mark(t, c, 1)
	_, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)

	conn := c.Connect(t)
	var lsn wal.LSN
	var xid int64
	var at time.Time
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		var text string
		err := tx.QueryRow(t.Context(), `with m as (insert into marks values (2) returning n) select pg_current_wal_insert_lsn()::text from m`).Scan(&text)
		require.NoError(t, err)
		// The insert is done by now, so the commit is the next record.
		require.NoError(t, tx.QueryRow(t.Context(), `select pg_current_wal_insert_lsn()::text`).Scan(&text))
		lsn, err = wal.ParseLSN(text)
		return err
	}))
	require.NoError(t, conn.QueryRow(t.Context(), `insert into marks values (3) returning txid_current()`).Scan(&xid))
	require.NoError(t, conn.QueryRow(t.Context(), `insert into marks values (4) returning txid_current()`).Scan(&xid))
	require.NoError(t, conn.QueryRow(t.Context(), `select pg_xact_commit_timestamp($1::text::xid)`, strconv.FormatInt(xid, 10)).Scan(&at))
	const point = `the "point" isn't \ here`
	c.Exec(t, `insert into marks values (5)`, `select pg_create_restore_point('the "point" isn''t \ here')`, `insert into marks values (6)`, `drop table precious`,
		`insert into marks values (7)`)
	pushAll(t, c, r)
	commit := found(t, r, wal.EventCommit, func(e wal.Event) bool { return e.XID == uint32(xid) })
	drop := found(t, r, wal.EventDrop, func(wal.Event) bool { return true })

	// What is undone is told in words.
	p, err := restore.Prepare(t.Context(), r, restore.AtXID(uint64(drop.XID)).Before(), &restore.PlanOptions{Undone: true})
	require.NoError(t, err)
	require.Equal(t, drop.XID, p.NextCommit.XID)
	require.Equal(t, 2, p.Undone.Commits.Count)
	require.Len(t, p.Undone.Events, 1)
	require.Equal(t, []string{"public.precious"}, p.Undone.Events[0].Names)
	require.Contains(t, p.String(), "undone   2 commits, from ")
	require.Contains(t, p.String(), "undone   drop at "+drop.LSN.String()+" by transaction "+strconv.Itoa(int(drop.XID))+": public.precious\n")

	for _, tt := range []struct {
		name   string
		target restore.Target
		want   []int32
	}{
		{"immediate", restore.Immediate(), []int32{1}},
		{"position", restore.AtLSN(lsn), []int32{1, 2}},
		{"before a position", restore.AtLSN(lsn).Before(), []int32{1}},
		{"transaction", restore.AtXID(uint64(xid)), []int32{1, 2, 3, 4}},
		{"before a transaction", restore.AtXID(uint64(xid)).Before(), []int32{1, 2, 3}},
		{"time", restore.AtTime(at), []int32{1, 2, 3, 4}},
		{"before a time", restore.AtTime(at).Before(), []int32{1, 2, 3}},
		{"restore point", restore.AtName(point), []int32{1, 2, 3, 4, 5}},
		{"before a commit", restore.Before(commit), []int32{1, 2, 3}},
		{"before an accident", restore.Before(drop), []int32{1, 2, 3, 4, 5, 6}},
		{"latest", restore.Latest(), []int32{1, 2, 3, 4, 5, 6, 7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := recovered(t, r, tt.target, nil, nil, nil)
			require.Equal(t, tt.want, marks(t, b))
			require.Equal(t, tt.target != restore.Latest(), pgtest.Value[bool](t, b, `select to_regclass('precious') is not null`))
			mark(t, b, 100) // it is promoted
		})
	}
	t.Run("paused at a restore point", func(t *testing.T) {
		t.Parallel()
		b := recovered(t, r, restore.AtName(point), nil, &restore.Options{Action: restore.Pause, KeepArchiving: true}, &pgtest.BootOptions{Standby: true})
		require.Eventually(t, func() bool {
			return pgtest.Value[string](t, b, `select pg_get_wal_replay_pause_state()`) == "paused"
		}, 30*time.Second, 10*time.Millisecond)
		require.Equal(t, []int32{1, 2, 3, 4, 5}, marks(t, b))
		require.Equal(t, "on", pgtest.Value[string](t, b, `show archive_mode`))
	})
	t.Run("shut down at a restore point", func(t *testing.T) {
		t.Parallel()
		p, err := restore.Prepare(t.Context(), r, restore.AtName(point), nil)
		require.NoError(t, err)
		dir := filepath.Join(pgtest.Dir(t), "data")
		_, err = p.Run(t.Context(), r, dir, &restore.Options{Action: restore.Shutdown})
		require.NoError(t, err)
		_, err = pgtest.TryBoot(t, dir, 0, nil)
		require.ErrorContains(t, err, "shutdown at recovery target")
		b := pgtest.Boot(t, dir, 0, &pgtest.BootOptions{Conf: map[string]string{"recovery_target_action": "promote"}})
		require.Equal(t, []int32{1, 2, 3, 4, 5}, marks(t, b))
	})
	t.Run("time that no commit is after", func(t *testing.T) {
		t.Parallel()
		_, err := restore.Prepare(t.Context(), r, restore.AtTime(at.Add(time.Hour)), nil)
		require.ErrorContains(t, err, "recover to the end of the archive instead")
		p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
		require.NoError(t, err)
		p.Target = restore.AtTime(at.Add(time.Hour))
		dir := filepath.Join(pgtest.Dir(t), "data")
		_, err = p.Run(t.Context(), r, dir, nil)
		require.NoError(t, err)
		_, err = pgtest.TryBoot(t, dir, 0, nil)
		require.ErrorContains(t, err, "recovery ended before configured recovery target was reached")
	})
}

// found searches the archive for the one thing of a kind that is wanted.
func found(t *testing.T, r *repo.Repo, kind wal.EventKind, want func(wal.Event) bool) wal.Event {
	t.Helper()
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	var all []wal.Event
	for e, err := range a.Search(t.Context(), wal.Query{Kinds: []wal.EventKind{kind}}) {
		require.NoError(t, err)
		if want(e) {
			all = append(all, e)
		}
	}
	require.Len(t, all, 1)
	return all[0]
}

// What was promoted after a recovery, and what it came from, archive side by side, and each can be recovered.
func TestTimelines(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Conf: archiving()})
	r := newRepo(t, false)
	c.Exec(t, `create table marks (n int)`)
	mark(t, c, 1)
	first, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	mark(t, c, 2)
	c.Exec(t, `select pg_create_restore_point('fork')`)
	mark(t, c, 3)
	pushAll(t, c, r)

	promoted := recovered(t, r, restore.AtName("fork"), nil, &restore.Options{KeepArchiving: true}, nil)
	require.Equal(t, []int32{1, 2}, marks(t, promoted))
	mark(t, promoted, 20)
	pushAll(t, promoted, r)
	second, err := backup.Take(t.Context(), r, source(t, promoted), nil)
	require.NoError(t, err)
	require.Equal(t, wal.Timeline(2), second.Timeline)
	mark(t, promoted, 21)
	pushAll(t, promoted, r)
	mark(t, c, 4)
	pushAll(t, c, r)

	old, young := []int32{1, 2, 3, 4}, []int32{1, 2, 20, 21}
	tests := []struct {
		name     string
		target   restore.Target
		options  restore.PlanOptions
		backup   *backup.Manifest
		timeline wal.Timeline
		want     []int32
	}{
		{"newest", restore.Latest(), restore.PlanOptions{}, second, 2, young},
		{"newest, over the fork", restore.Latest(), restore.PlanOptions{Backup: first.ID}, first, 2, young},
		{"parent", restore.Latest(), restore.PlanOptions{Timeline: 1}, first, 1, old},
		{"current", restore.Latest(), restore.PlanOptions{Timeline: restore.Current, Backup: first.ID}, first, 1, old},
		{"immediate", restore.Immediate(), restore.PlanOptions{}, second, 2, []int32{1, 2, 20}},
		{"history is lost", restore.Latest(), restore.PlanOptions{}, second, 2, young},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "history is lost" {
				sys := strconv.FormatUint(second.SystemID, 10)
				require.NoError(t, r.Store().Delete(t.Context(), "wal/"+sys+"/00000002.history"))
			}
			p, err := restore.Prepare(t.Context(), r, tt.target, &tt.options)
			require.NoError(t, err)
			require.Equal(t, tt.backup.ID, p.Backup.ID)
			require.Equal(t, tt.timeline, p.Timeline)
			b := recovered(t, r, tt.target, &tt.options, nil, nil)
			require.Equal(t, tt.want, marks(t, b))
			// The timeline that it begins is none of those there are.
			require.Equal(t, "00000003", pgtest.Value[string](t, b, `select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`))
		})
	}
}
