package restore_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// standbySource makes a source of a standby. What the role takes is done on the primary.
func standbySource(t *testing.T, primary, standby *pgtest.Cluster, kind string) backup.Source {
	t.Helper()
	switch kind {
	case "directory":
		return source(t, standby)
	case "replication":
		replicatorOf(t, primary)
		standby.CatchUp(t, primary)
		s, err := backup.Replication(strings.Replace(standby.DSN("postgres"), "user=postgres", "user=replicator", 1), nil)
		require.NoError(t, err)
		return s
	}
	s, err := backup.SQL(strings.Replace(standby.DSN("postgres"), "user=postgres", "user=backup", 1), nil)
	require.NoError(t, err)
	primary.Exec(t, `create role backup login replication`)
	standby.CatchUp(t, primary)
	_, err = s.Begin(t.Context(), backup.BeginOptions{})
	var denied *backup.PrivilegeError
	require.ErrorAs(t, err, &denied)
	primary.Exec(t, denied.Grant())
	standby.CatchUp(t, primary)
	return s
}

// newPair makes a primary and a standby that streams from it.
func newPair(t *testing.T, major int) (primary, standby *pgtest.Cluster) {
	t.Helper()
	conf := archiving()
	if major >= 17 {
		conf["summarize_wal"] = "on"
	}
	primary = pgtest.New(t, &pgtest.Options{Major: major, Conf: conf, SegmentSize: 1 << 20, NoChecksums: major%2 == 0})
	return primary, primary.Follow(t, &pgtest.BootOptions{Conf: map[string]string{"wal_keep_size": "2GB"}})
}

// TestBackupsFromAStandby takes backups from a standby while its primary, whose archiver does not come along, is written
// to: a full one, and differences by every method. Each restores to what the primary has.
func TestBackupsFromAStandby(t *testing.T) {
	t.Parallel()
	for i, kind := range []string{"directory", "sql", "replication"} {
		for _, major := range pgtest.Majors() {
			if (major+i)%3 != 0 {
				continue // each server by one of them: how a standby is read is not of the version
			}
			if pgtest.RaceDetector && major < 16 {
				continue // each of them once, as in [pgtest.Some]
			}
			t.Run(fmt.Sprintf("%s/pg%d", kind, major), func(t *testing.T) {
				t.Parallel()
				primary, standby := newPair(t, major)
				s := standbySource(t, primary, standby, kind)
				r := newRepo(t, true)
				prepareChanges(t, primary)
				load := pgtest.StartLoad(t, primary, nil)
				all := []*backup.Manifest{takeFrom(t, primary, r, s, backup.Full, "")}
				require.Contains(t, all[0].Label, "BACKUP FROM: standby")
				methods := []backup.Method{backup.ByIndex, backup.ByLSN, backup.ByCompare}
				if major >= 17 {
					methods = append(methods, backup.BySummary)
				}
				for round, method := range []backup.Method{methods[major%len(methods)], methods[(major+1)%len(methods)], ""} {
					change(t, primary, round)
					standby.CatchUp(t, primary)
					all = append(all, takeFrom(t, primary, r, s, backup.Incremental, method))
				}
				last := all[len(all)-1]
				if kind != "replication" || major < 17 { // where the server sends what has changed
					require.Equal(t, backup.ByIndex, last.Method, last.Reason)
				}
				load.Stop(t)
				pushAll(t, primary, r) // which also compares what the standby's backups have pushed
				want := pgtest.Checksums(t, primary)
				for _, m := range []*backup.Manifest{all[(major+i)%3], last} {
					b := recovered(t, r, restore.Latest(), &restore.PlanOptions{Backup: m.ID}, nil, nil)
					require.Equal(t, want, pgtest.Checksums(t, b))
					require.False(t, b.InRecovery(t))
					if m == last {
						requireVisible(t, b)
						pgtest.Amcheck(t, b)
					}
					b.Stop(t)
				}
			})
		}
	}
}

// takeFrom takes a backup that has to be of the type, and by the method, unless that is empty.
// A primary that is idle completes the segment that is waited for.
func takeFrom(t *testing.T, primary *pgtest.Cluster, r *repo.Repo, s backup.Source, kind backup.Type, method backup.Method) *backup.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), r, s, &backup.Options{Type: kind, Method: method, Logger: switching(t, primary)})
	require.NoError(t, err)
	require.Zero(t, m.BadPages)
	require.Equal(t, kind, m.Type, m.Reason)
	if method != "" {
		require.Equal(t, method, m.Method)
	}
	return m
}

// TestStandbyAndPrimaryByTurns builds backups of a primary on those of its standby and the other way round, also where no
// checkpoint has been made in between, so that a backup begins before the one that it builds on has ended.
func TestStandbyAndPrimaryByTurns(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Some(13, 16, 17, 18) { // before and since pg_backup_start, and WAL summaries
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			primary, standby := newPair(t, major)
			onStandby, onPrimary := standbySource(t, primary, standby, []string{"directory", "sql"}[major%2]), source(t, primary)
			r := newRepo(t, false)
			prepareChanges(t, primary)
			write := func() {
				primary.Exec(t, `update quiet set pad = pad || 'x' where i % 100 = 0`, `delete from visible where id % 50 = 1`,
					`insert into visible select max(id) + 1, 'new' from visible`, `select pg_switch_wal()`)
				standby.CatchUp(t, primary)
			}
			takeFrom(t, primary, r, onPrimary, backup.Full, "")
			methods := []backup.Method{backup.ByIndex, backup.ByLSN, backup.ByCompare, ""}
			if major >= 17 {
				methods = append(methods, backup.BySummary)
			}
			for i, method := range methods {
				write()
				// Its restartpoint is that of the backup before it, so it begins before that has ended.
				first := takeFrom(t, primary, r, onStandby, backup.Incremental, method)
				write()
				second := takeFrom(t, primary, r, onStandby, backup.Incremental, method)
				require.Equal(t, first.StartLSN, second.StartLSN)
				require.Less(t, first.StopLSN, second.StopLSN)
				want := pgtest.Checksums(t, primary)
				write()
				if i%2 == 0 { // else there is no record behind the one that the backup ends with
					pushAll(t, primary, r)
				}
				requireLeadsTo(t, r, restore.Immediate(), second, want)
				third := takeFrom(t, primary, r, onPrimary, backup.Differential, method)
				require.Less(t, second.StopLSN, third.StartLSN)
			}

			// What lags behind the backup to build on cannot, and says so.
			standby.Exec(t, `select pg_wal_replay_pause()`)
			write = func() {
				primary.Exec(t, `insert into visible select max(id) + 1, 'new' from visible`, `select pg_switch_wal()`)
			}
			write()
			takeFrom(t, primary, r, onPrimary, backup.Incremental, "")
			write()
			lagging, err := backup.Take(t.Context(), r, onStandby, &backup.Options{Type: backup.Incremental, Logger: switching(t, primary)})
			require.NoError(t, err)
			require.Equal(t, backup.Full, lagging.Type)
			require.Regexp(t, `it cannot build on .*: it (begins at .* and the latest restartpoint of the standby is at|ends at .* and the standby has replayed up to)`, lagging.Reason)
			standby.Exec(t, `select pg_wal_replay_resume()`)
			standby.CatchUp(t, primary)
			last := takeFrom(t, primary, r, onStandby, backup.Incremental, "")
			pushAll(t, primary, r)
			requireLeadsTo(t, r, restore.Latest(), last, pgtest.Checksums(t, primary))
		})
	}
}

// requireLeadsTo requires that a backup leads to what a cluster held.
func requireLeadsTo(t *testing.T, r *repo.Repo, target restore.Target, m *backup.Manifest, want map[string]string) {
	t.Helper()
	b := recovered(t, r, target, &restore.PlanOptions{Backup: m.ID}, nil, nil)
	require.Equal(t, want, pgtest.Checksums(t, b))
	requireVisible(t, b)
	pgtest.Amcheck(t, b)
	b.Stop(t)
}

// switching is a logger that has a primary switch to a new segment when one is waited for.
func switching(t *testing.T, primary *pgtest.Cluster) *slog.Logger {
	t.Helper()
	return pgtest.OnLog("waiting for a segment", func() { primary.Exec(t, `select pg_switch_wal()`) })
}
