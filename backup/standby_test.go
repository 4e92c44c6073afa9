package backup_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// stopped is a source with something that happens once its backup has been stopped.
type stopped struct {
	backup.Source
	what func()
}

func (s stopped) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	session, err := s.Source.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return stoppedSession{session, session.(backup.Lister), session.(backup.Replayer), s.what}, nil
}

type stoppedSession struct {
	backup.Session
	backup.Lister
	backup.Replayer
	what func()
}

func (s stoppedSession) Stop(ctx context.Context) (backup.Stop, error) {
	stop, err := s.Session.Stop(ctx)
	if err == nil {
		s.what()
	}
	return stop, err
}

// onWaiting is a logger that does something when a segment is waited for.
func onWaiting(what func()) *slog.Logger { return pgtest.OnLog("waiting for a segment", what) }

// eachSource repeats a test on every major version, by turns with the data directory and by SQL.
func eachSource(t *testing.T, f func(t *testing.T, major int, sql bool)) {
	t.Helper()
	pgtest.Each(t, func(t *testing.T, major int) { f(t, major, major%2 == 1) })
}

// of is a cluster, by SQL or not.
func of(t *testing.T, c *pgtest.Cluster, sql bool) backup.Source {
	t.Helper()
	if sql {
		return sqlSource(t, c.DSN("postgres"), nil)
	}
	s, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
	require.NoError(t, err)
	return s
}

// write has a primary write a little, and complete a segment.
func writeOn(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t, `select pg_logical_emit_message(false, 'a', 'b')`, `select pg_switch_wal()`)
}

// TestIdlePrimary: a backup from a standby, whose primary archives nothing and writes nothing, waits until that completes
// a segment, and pushes just what the primary would.
func TestIdlePrimary(t *testing.T) {
	t.Parallel()
	eachSource(t, func(t *testing.T, major int, sql bool) {
		primary := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"autovacuum": "off"}})
		standby := primary.Follow(t, nil)
		r := newRepo(t, nil, nil)
		var waited int
		m, err := backup.Take(t.Context(), r, of(t, standby, sql), &backup.Options{Logger: onWaiting(func() {
			waited++
			primary.Exec(t, `select pg_switch_wal()`)
		})})
		require.NoError(t, err)
		require.Equal(t, 1, waited)
		requireSound(t, r)
		requireQuiet(t, standby)
		requireSameSegment(t, r, primary, m.LastSegment())

		// With no checkpoint since, there is no other restartpoint to begin with.
		again, err := backup.Take(t.Context(), r, of(t, standby, sql), &backup.Options{
			Type: backup.Incremental, Logger: onWaiting(func() { writeOn(t, primary) }),
		})
		require.NoError(t, err)
		require.Equal(t, backup.Incremental, again.Type, again.Reason)
		require.Equal(t, m.StartLSN, again.StartLSN)
		require.GreaterOrEqual(t, again.StopLSN, m.StopLSN)
	})
}

// requireSameSegment pushes a segment as the primary's archiver would.
func requireSameSegment(t *testing.T, r *repo.Repo, primary *pgtest.Cluster, s wal.Segment) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(primary.Data, "pg_wal", s.Name()))
	require.NoError(t, err)
	require.NoError(t, pushContent(t, r, s, b))
}

// TestPromotionDuringABackup: a backup whose standby is promoted while it is read, or before its WAL is secured, fails
// and leaves nothing. The next is a full one, and says why.
func TestPromotionDuringABackup(t *testing.T) {
	t.Parallel()
	eachSource(t, func(t *testing.T, major int, sql bool) {
		primary := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"autovacuum": "off"}})
		standby := primary.Follow(t, nil)
		r := newRepo(t, nil, nil)
		source := of(t, standby, sql)
		first, err := backup.Take(t.Context(), r, source, &backup.Options{Logger: onWaiting(func() { writeOn(t, primary) })})
		require.NoError(t, err)
		packs := keys(t, r.Store(), "packs/")

		promote := func() { standby.Exec(t, `select pg_promote()`) }
		in := backup.Source(backuptest.Meanwhile{Source: source, Reading: promote})
		if major%4 < 2 {
			primary.Exec(t, `select pg_logical_emit_message(true, 'the last segment is', 'not complete')`)
			standby.CatchUp(t, primary)
			in = stopped{source, promote}
		}
		_, err = backup.Take(t.Context(), r, in, &backup.Options{Type: backup.Auto})
		requirePromoted(t, err, backup.PromotedError{Timeline: 1})
		requireNoAnswer(t, err)
		require.Equal(t, []string{"backups/" + string(first.ID)}, keys(t, r.Store(), "backups/"))
		require.Equal(t, packs, keys(t, r.Store(), "packs/"))
		requireQuiet(t, standby)

		for _, kind := range []backup.Type{backup.Auto, backup.Differential} {
			next, err := backup.Take(t.Context(), r, source, &backup.Options{Type: kind})
			require.NoError(t, err)
			if kind == backup.Auto {
				require.Equal(t, backup.Full, next.Type)
				require.Contains(t, next.Reason, "it is of timeline 1, and the server is on 2")
			} else {
				require.Equal(t, backup.Differential, next.Type, next.Reason)
			}
		}
		requireSound(t, r)
	})
}

// TestPromotionOfAnother: what a standby follows is promoted, once before and once after the standby's backup is stopped.
func TestPromotionOfAnother(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]bool{"directory": false, "sql": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := pgtest.New(t, &pgtest.Options{Conf: map[string]string{"autovacuum": "off"}})
			near := primary.Follow(t, nil)
			far := near.Follow(t, nil)
			r := newRepo(t, nil, nil)
			source := of(t, far, sql)
			_, err := backup.Take(t.Context(), r, source, &backup.Options{Logger: onWaiting(func() { writeOn(t, primary) })})
			require.NoError(t, err)
			primary.Exec(t, `select pg_logical_emit_message(true, 'the last segment is', 'not complete')`)
			far.CatchUp(t, primary)

			promote := func() {
				near.Exec(t, `select pg_promote()`)
				writeOn(t, near)
				far.CatchUp(t, near)
				far.Exec(t, `checkpoint`)
			}
			in := backup.Source(stopped{source, promote})
			if sql {
				in = backuptest.Meanwhile{Source: source, Reading: promote}
			}
			_, err = backup.Take(t.Context(), r, in, &backup.Options{Type: backup.Auto})
			requirePromoted(t, err, backup.PromotedError{Timeline: 1, Next: 2})
			requireQuiet(t, far)

			near.Exec(t, `checkpoint`)
			far.CatchUp(t, near)
			next, err := backup.Take(t.Context(), r, source, &backup.Options{Type: backup.Auto, Logger: onWaiting(func() { writeOn(t, near) })})
			require.NoError(t, err)
			require.Equal(t, backup.Full, next.Type)
			require.Contains(t, next.Reason, "it is of timeline 1, and the server is on 2")
			requireSound(t, r)
		})
	}
}

// TestStandbyOfAnArchive takes backups of a standby that replays what another archive has, and nothing else.
func TestStandbyOfAnArchive(t *testing.T) {
	t.Parallel()
	archive := pgtest.Dir(t)
	primary := pgtest.New(t, &pgtest.Options{SegmentSize: 1 << 20, Conf: map[string]string{
		"autovacuum": "off", "archive_mode": "on", "archive_command": "cp %p " + archive + "/%f",
	}})
	standby := primary.Follow(t, &pgtest.BootOptions{Conf: map[string]string{
		"primary_conninfo": "", "restore_command": "cp " + archive + "/%f %p", "wal_retrieve_retry_interval": "100ms",
	}})
	r := newRepo(t, nil, nil)
	for _, sql := range []bool{false, true} {
		primary.Exec(t, `create table t`+map[bool]string{true: "1"}[sql]+` as select generate_series(1, 100000)`)
		writeOn(t, primary)
		standby.CatchUp(t, primary)
		m, err := backup.Take(t.Context(), r, of(t, standby, sql), &backup.Options{
			Type: backup.Auto, Logger: onWaiting(func() { writeOn(t, primary) }),
		})
		require.NoError(t, err)
		require.Equal(t, sql, m.Type == backup.Incremental, m.Reason)
		for s := m.FirstSegment(); s.Number <= m.LastSegment().Number; s = s.Next() {
			b, err := os.ReadFile(filepath.Join(archive, s.Name()))
			require.NoError(t, err)
			require.NoError(t, pushContent(t, r, s, b))
		}
	}
	requireSound(t, r)
}

// TestCheckOfAStandby: the road from a standby is open when the archive has what it has replayed, whoever brought it.
func TestCheckOfAStandby(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		primary := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: 1 << 20, Conf: map[string]string{
			"autovacuum": "off", "archive_mode": "on", "archive_command": "true",
		}})
		standby := primary.Follow(t, nil)
		primary.Exec(t, `create role backup login`)
		standby.CatchUp(t, primary)
		conn := as("backup", standby.DSN("postgres"))
		r := newRepo(t, nil, nil)
		check := func(wait time.Duration) ([]string, *backup.CheckReport, error) {
			report, err := backup.Check(t.Context(), r, conn, &backup.CheckOptions{Wait: wait, SQL: true})
			return verdicts(report), report, err
		}
		got, _, err := check(0)
		require.Equal(t, []string{"connect ok", "role FAILED", "settings ok", "store ok", "objects ok", "cluster ok", "archive skipped"}, got)
		var denied *backup.PrivilegeError
		require.ErrorAs(t, err, &denied)
		primary.Exec(t, denied.Grant())
		writeOn(t, primary)
		standby.CatchUp(t, primary)

		got, _, err = check(time.Millisecond)
		require.Equal(t, []string{"connect ok", "role ok", "settings ok", "store ok", "objects ok", "cluster ok", "archive FAILED"}, got)
		var lost *backup.ArchiveError
		require.ErrorAs(t, err, &lost)
		require.True(t, lost.Standby)
		require.ErrorContains(t, err, "does its primary archive here?")
		s, err := wal.ParseSegment(lost.Segment, 1<<20)
		require.NoError(t, err)
		requireSameSegment(t, r, primary, s)
		_, report, err := check(0)
		require.NoError(t, err)
		require.True(t, report.OK)
		require.Contains(t, report.Steps[0].Detail, "a standby")
		require.Contains(t, report.Steps[6].Detail, "arrived, and was read back")
	})
}

// What recovery on a standby has cancelled is tried again, for a while.
func TestRecoveryCancelsQueries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conflict := fmt.Errorf("x: %w", &pgconn.PgError{Code: "40001"})
		for _, tt := range []struct {
			fails int
			with  error
			calls int
		}{{0, nil, 1}, {1, conflict, 2}, {9, conflict, 10}, {10, conflict, 10}, {1, io.ErrUnexpectedEOF, 1}} {
			calls := 0
			err := backup.Again(t.Context(), func() error {
				if calls++; calls <= tt.fails {
					return tt.with
				}
				return nil
			})
			require.Equal(t, tt.calls, calls)
			if tt.calls > tt.fails {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, tt.with)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		require.ErrorIs(t, backup.Again(ctx, func() error { cancel(); return conflict }), context.Canceled)
	})
}

// Several repositories ask a standby, each for itself, how far it is, while they wait for the last segment: by the one
// connection that holds the backup.
func TestTakeAllFromAStandby(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]bool{"directory": false, "sql": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := pgtest.New(t, &pgtest.Options{Conf: map[string]string{"autovacuum": "off"}})
			standby := primary.Follow(t, nil)
			var repos []*repo.Repo
			for range 4 {
				repos = append(repos, newRepo(t, nil, nil))
			}
			var once sync.Once
			waiting := onWaiting(func() { // for some polls
				once.Do(func() { time.AfterFunc(2*time.Second, func() { primary.Exec(t, `select pg_switch_wal()`) }) })
			})
			taken, err := backup.TakeAll(t.Context(), repos, of(t, standby, sql), &backup.AllOptions{Options: backup.Options{Logger: waiting}})
			require.NoError(t, err)
			for i, r := range repos {
				require.NoError(t, taken[i].Err)
				requireSound(t, r)
			}
			requireQuiet(t, standby)
		})
	}
}
