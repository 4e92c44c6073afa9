package restore_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// TestRestoredStandby restores standbys of a primary that goes on writing, on every major version: one that has to get
// from the archive what the primary no longer has, and one that streams all but the backup's own WAL, by a slot. Each
// holds what its primary holds, and can be promoted.
func TestRestoredStandby(t *testing.T) {
	t.Parallel()
	someMajors(t, func(t *testing.T, major int) {
		conf := archiving()
		primary := pgtest.New(t, &pgtest.Options{Major: major, Conf: conf, SegmentSize: 1 << 20})
		r := newRepo(t, false)
		load := pgtest.StartLoad(t, primary, nil)
		m, err := backup.Take(t.Context(), r, source(t, primary), nil)
		require.NoError(t, err)
		pushAll(t, primary, r)
		primary.Exec(t, `select pg_create_physical_replication_slot('follower', true)`)
		load.Stop(t)
		primary.Exec(t, `create table more as select i from generate_series(1, 1000) i`)
		// The primary forgets what is archived by now.
		pushAll(t, primary, r)
		require.NoError(t, os.Remove(filepath.Join(primary.Data, "pg_wal", m.FirstSegment().Name())))

		for _, tt := range []struct {
			name   string
			target restore.Target
			o      restore.Options
		}{
			{"from the archive", restore.Latest(), restore.Options{}},
			{"by a slot", restore.Immediate(), restore.Options{KeepArchiving: true, Standby: &restore.Standby{Slot: "follower"}}},
		} {
			if tt.o.Standby == nil {
				tt.o.Standby = &restore.Standby{}
			}
			tt.o.Standby.PrimaryConnInfo = primary.DSN("postgres")
			b := recovered(t, r, tt.target, nil, &tt.o, &pgtest.BootOptions{Standby: true})
			load := pgtest.StartLoad(t, primary, nil)
			b.Await(t, `select exists (select from pg_stat_wal_receiver where status = 'streaming' and coalesce(slot_name, '') = $1)`, tt.o.Standby.Slot)
			load.Stop(t)
			b.CatchUp(t, primary)
			require.True(t, b.InRecovery(t), tt.name)
			require.Equal(t, pgtest.Checksums(t, primary), pgtest.Checksums(t, b), tt.name)
			require.Equal(t, map[bool]string{true: "on", false: "off"}[tt.o.KeepArchiving], pgtest.Value[string](t, b, `show archive_mode`))
			b.Stop(t)
			b.StartStandby(t)
			b.Exec(t, `select pg_promote()`)
			b.Await(t, `select not pg_is_in_recovery()`)
			b.Exec(t, `insert into more values (0)`)
			b.Stop(t)
		}
	})
}

// A standby needs no primary: with a restore_command, or even without, it replays what there is, and waits.
func TestStandbyWithoutAPrimary(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Conf: archiving(), SegmentSize: 1 << 20})
	r := newRepo(t, false)
	_, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	c.Exec(t, `create table t as select i from generate_series(1, 1000) i`)
	pushAll(t, c, r)
	b := recovered(t, r, restore.Latest(), nil, &restore.Options{Standby: &restore.Standby{}}, &pgtest.BootOptions{Standby: true})
	b.Await(t, `select to_regclass('t') is not null`)
	require.True(t, b.InRecovery(t))
	require.Equal(t, pgtest.Checksums(t, c), pgtest.Checksums(t, b))
}

func TestStandbySettings(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	const secret = `it's\secret`
	for _, tt := range []struct {
		name     string
		timeline wal.Timeline
		o        restore.Options
		want     string
	}{
		{"staged", 0, restore.Options{Standby: &restore.Standby{}}, `restore_command = ''
primary_conninfo = ''
primary_slot_name = ''
recovery_target_timeline = 'latest'
`},
		{"by command, timeline by number, archiving", restore.Current, restore.Options{
			RestoreCommand: "fetch %f %p", KeepArchiving: true,
			Standby: &restore.Standby{PrimaryConnInfo: "host=p password=" + secret, Slot: "a_1"},
		}, `restore_command = 'fetch %f %p'
primary_conninfo = 'host=p password=it''s\\secret'
primary_slot_name = 'a_1'
recovery_target_timeline = '1'
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := restore.Prepare(t.Context(), f.repo, restore.Latest(), &restore.PlanOptions{Timeline: tt.timeline})
			require.NoError(t, err)
			var log bytes.Buffer
			tt.o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			dir := newDir(t)
			_, err = p.Run(t.Context(), f.repo, dir, &tt.o)
			require.NoError(t, err)
			auto, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
			require.NoError(t, err)
			want := "# written by pgcairn to follow a primary\n" + tt.want +
				"recovery_end_command = ''\narchive_cleanup_command = ''\nrecovery_min_apply_delay = '0'\n"
			if !tt.o.KeepArchiving {
				want += "archive_mode = 'off'\n"
			}
			require.True(t, strings.HasSuffix(string(auto), want), "%s", auto)
			require.FileExists(t, filepath.Join(dir, "standby.signal"))
			require.NoFileExists(t, filepath.Join(dir, "recovery.signal"))
			require.NotContains(t, log.String(), secret)
		})
	}
}

func TestStandbyRefusesOptions(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	for _, tt := range []struct {
		name   string
		target restore.Target
		o      restore.Options
		says   string
	}{
		{"an action", restore.Latest(), restore.Options{Action: restore.Promote, Standby: &restore.Standby{}}, "promoted"},
		{"a target", restore.AtLSN(f.m.StopLSN), restore.Options{Standby: &restore.Standby{}}, "does not end to 0/"},
		{"a slot of nobody", restore.Latest(), restore.Options{Standby: &restore.Standby{Slot: "a"}}, "needs a primary"},
		{"no slot", restore.Latest(), restore.Options{Standby: &restore.Standby{PrimaryConnInfo: "host=p", Slot: "A"}}, `"A" is no name`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := restore.Prepare(t.Context(), f.repo, tt.target, nil)
			require.NoError(t, err)
			dir := newDir(t)
			_, err = p.Run(t.Context(), f.repo, dir, &tt.o)
			require.ErrorContains(t, err, tt.says)
			require.NoDirExists(t, dir)
		})
	}
}
