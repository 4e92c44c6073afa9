package restore_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// TestPgUpgrade takes backups and WAL of a cluster before and after it was upgraded, into one repository. The cluster
// after it is what pg_upgrade has made, or, where there is none of that version, a new one. All backups restore to what
// was there, and recovery of each cluster ends where its own WAL does.
func TestPgUpgrade(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		old, new  int
		encrypted bool
		upgrade   func(t *testing.T, old *pgtest.Cluster) *pgtest.Cluster
		version   string
	}{
		{name: "pg_upgrade", old: pgtest.DistroMajor(t), upgrade: pgUpgrade, encrypted: true},
		{name: "13 to 18", old: 13, new: 18, version: ", and PostgreSQL from 13 to 18"},
		{name: "17 to 17", old: 17, new: 17},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			old := pgtest.New(t, &pgtest.Options{Major: tt.old, Distro: tt.upgrade != nil, Conf: archiving()})
			r := newRepo(t, tt.encrypted)
			old.Exec(t, `create table told as select i, md5(i::text) from generate_series(1, 20000) i`, `create sequence s`, `select nextval('s')`,
				`create table gone ()`)
			first := takeOf(t, r, old, nil)
			old.Exec(t, `update told set md5 = 'changed' where i % 100 = 0`)
			second := takeOf(t, r, old, &backup.Options{Type: backup.Auto})
			require.Equal(t, backup.Incremental, second.Type)
			old.Exec(t, `insert into told select i, 'late' from generate_series(1, 5000) i`)
			pushAll(t, old, r)
			wantOld := pgtest.Checksums(t, old)
			between := pgtest.Value[time.Time](t, old, `select clock_timestamp()`)
			old.Exec(t, `drop table gone`)
			pushAll(t, old, r)
			wantLater := pgtest.Checksums(t, old)
			old.Stop(t)

			if tt.upgrade == nil {
				tt.upgrade = func(t *testing.T, _ *pgtest.Cluster) *pgtest.Cluster {
					c := pgtest.New(t, &pgtest.Options{Major: tt.new, Conf: archiving()})
					c.Exec(t, `create table told as select i, md5(i::text) from generate_series(1, 20000) i`)
					return c
				}
			}
			c := tt.upgrade(t, old)
			var foreign *wal.ForeignError
			for _, o := range []*backup.Options{nil, {UpgradedFrom: 7}} {
				_, err := backup.Take(t.Context(), r, source(t, c), o)
				require.ErrorAs(t, err, &foreign)
				require.False(t, foreign.Earlier)
				require.Equal(t, foreign.Want, first.SystemID)
			}
			upgraded := takeOf(t, r, c, &backup.Options{Type: backup.Auto, UpgradedFrom: foreign.Want})
			require.Equal(t, backup.Full, upgraded.Type)
			require.Equal(t, fmt.Sprintf("the system identifier has changed from %d to %d%s, since backup %s",
				first.SystemID, foreign.Got, tt.version, second.ID), upgraded.Reason)
			c.Exec(t, `insert into told select i, 'new' from generate_series(1, 5000) i`)
			incr := takeOf(t, r, c, &backup.Options{Type: backup.Incremental})
			require.Equal(t, upgraded.ID, incr.Parent)
			require.Equal(t, backup.ByIndex, incr.Method, incr.Reason)
			c.Exec(t, `delete from told where i % 7 = 0`)
			want := pgtest.Checksums(t, c) // which writes WAL, too: hint bits
			pushAll(t, c, r)

			require.Contains(t, droppedNames(t, r, first.SystemID), "public.gone")
			require.NotContains(t, droppedNames(t, r, 0), "public.gone")
			for _, restored := range []struct {
				target  restore.Target
				options *restore.PlanOptions
				want    map[string]string
				from    *backup.Manifest
			}{
				{restore.Latest(), nil, want, incr},
				{restore.Latest(), &restore.PlanOptions{Backup: upgraded.ID}, want, upgraded},
				{restore.Latest(), &restore.PlanOptions{SystemID: first.SystemID}, wantLater, second},
				{restore.Latest(), &restore.PlanOptions{Backup: first.ID}, wantLater, first},
				{restore.AtTime(between), nil, wantOld, second},
			} {
				p, err := restore.Prepare(t.Context(), r, restored.target, restored.options)
				require.NoError(t, err)
				require.Equal(t, restored.from.ID, p.Backup.ID)
				b := recovered(t, r, restored.target, restored.options, nil, nil)
				require.Equal(t, restored.want, pgtest.Checksums(t, b))
				pgtest.Amcheck(t, b)
				b.Stop(t)
			}
		})
	}
}

// takeOf takes a backup of a cluster.
func takeOf(t *testing.T, r *repo.Repo, c *pgtest.Cluster, o *backup.Options) *backup.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), r, source(t, c), o)
	require.NoError(t, err)
	return m
}

// pgUpgrade runs pg_upgrade on a stopped cluster of the distribution's PostgreSQL, to one of the same version. To
// pg_upgrade that is an upgrade as any other.
func pgUpgrade(t *testing.T, old *pgtest.Cluster) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, &pgtest.Options{Distro: true, Conf: archiving()})
	c.Stop(t)
	bin := filepath.Dir(pgtest.DistroBin(t, "pg_upgrade"))
	cmd := pgtest.Command(t, filepath.Join(bin, "pg_upgrade"), "--username=postgres", "--old-bindir="+bin, "--new-bindir="+bin,
		"--old-datadir="+old.Data, "--new-datadir="+c.Data, "--socketdir="+c.Socket)
	cmd.Dir = pgtest.Dir(t)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	c.Start(t)
	require.EqualValues(t, 25000, pgtest.Value[int64](t, c, `select count(*) from told`))
	return c
}

// TestChecksumsTurnedOn: pg_checksums rewrites pages that no WAL tells of, so the next backup is a full one and says why.
func TestChecksumsTurnedOn(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Distro: true, NoChecksums: true, Conf: archiving()})
	r := newRepo(t, false)
	c.Exec(t, `create table told as select i, md5(i::text) from generate_series(1, 20000) i`)
	last := takeOf(t, r, c, nil)
	require.False(t, last.DataChecksums)
	turn := func(how, reason string, kind backup.Type) {
		c.Stop(t)
		pgtest.Run(t, pgtest.DistroBin(t, "pg_checksums"), "--"+how, "--pgdata="+c.Data)
		c.Start(t)
		want := pgtest.Checksums(t, c)
		m := takeOf(t, r, c, &backup.Options{Type: kind})
		require.Equal(t, backup.Full, m.Type)
		require.Equal(t, fmt.Sprintf("it cannot build on %s: data checksums have been turned %s since", last.ID, reason), m.Reason)
		require.Equal(t, how == "enable", m.DataChecksums)
		require.Zero(t, m.BadPages)
		c.Exec(t, fmt.Sprintf(`insert into told select i, '%s' from generate_series(1, 5000) i`, how))
		last = takeOf(t, r, c, &backup.Options{Type: backup.Auto})
		require.Equal(t, m.ID, last.Parent)
		for id, sums := range map[backup.ID]map[string]string{m.ID: want, last.ID: pgtest.Checksums(t, c)} {
			b := recovered(t, r, restore.Immediate(), &restore.PlanOptions{Backup: id}, nil, &pgtest.BootOptions{Distro: true})
			require.Equal(t, sums, pgtest.Checksums(t, b))
			b.Stop(t)
			if how == "enable" {
				pgtest.PgChecksums(t, b.Data)
			}
		}
	}
	turn("enable", "on", backup.Auto)
	turn("disable", "off", backup.Incremental)
	turn("enable", "on", backup.Auto)
}
