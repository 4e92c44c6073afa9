package restore_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// TestRoad walks the main road on every major version: an encrypted full backup of a cluster under a write load, WAL
// pushed by the archiver's rules, more writes, a table dropped, and recovery to the second before.
func TestRoad(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		ctx := t.Context()
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: archiving()})
		r := newRepo(t, true)
		load := pgtest.StartLoad(t, c, nil)
		m, err := backup.Take(ctx, r, source(t, c), &backup.Options{Labels: map[string]string{"test": t.Name()}})
		require.NoError(t, err)
		require.Zero(t, m.BadPages)
		before := load.Stop(t)
		require.Positive(t, before.Transactions)
		c.Exec(t, `create table precious as select i, md5(i::text) as text from generate_series(1, 5000) i`)
		want := pgtest.Checksums(t, c)
		at := pgtest.Value[time.Time](t, c, `select clock_timestamp()`)
		// The first later commit ends recovery. Of what comes after it, nothing may be seen.
		c.Exec(t, `select pg_sleep(0.001)`, `create table later ()`)
		load = pgtest.StartLoad(t, c, nil)
		c.Exec(t, `drop table precious`)
		require.Eventually(t, func() bool {
			return pgtest.Value[int64](t, c, `select count(*) from pgtest_load`) > int64(len(before.Live))
		}, 30*time.Second, 10*time.Millisecond)
		load.Stop(t)
		latest := pgtest.Checksums(t, c)
		pushAll(t, c, r)
		c.Stop(t)

		p, err := restore.Prepare(ctx, r, restore.AtTime(at), nil)
		require.NoError(t, err)
		require.Equal(t, m.ID, p.Backup.ID)
		dir := filepath.Join(pgtest.Dir(t), "data")
		_, err = p.Run(ctx, r, dir, &restore.Options{Progress: func(g restore.Progress) {
			if g.Phase == "sync" && major == pgtest.Newest() {
				_, err := pgtest.TryBoot(t, dir, major, nil)
				require.Error(t, err, "a restore under way does not boot")
			}
		}})
		require.NoError(t, err)
		b := pgtest.Boot(t, dir, major, nil)
		require.Equal(t, want, pgtest.Checksums(t, b))
		require.Equal(t, "off", pgtest.Value[string](t, b, `show archive_mode`))
		pgtest.Amcheck(t, b)
		if major == pgtest.DistroMajor(t) {
			b.Stop(t)
			pgtest.PgChecksums(t, dir)
		}

		require.Equal(t, latest, pgtest.Checksums(t, recovered(t, r, restore.Latest(), nil, nil, nil)))
		b = recovered(t, r, restore.Immediate(), nil, nil, nil)
		require.Zero(t, pgtest.Value[int64](t, b, `select count(*) from pg_class where relname = 'precious'`))
		require.Positive(t, pgtest.Value[int64](t, b, `select count(*) from pgtest_load`))
	})
}

// archiving are the settings of a cluster that archives by pushAll.
func archiving() map[string]string {
	return map[string]string{"archive_mode": "on", "archive_command": "false", "archive_timeout": "0"}
}

// source is a cluster's data directory.
func source(t *testing.T, c *pgtest.Cluster) backup.Source {
	t.Helper()
	s, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
	require.NoError(t, err)
	return s
}

// newRepo makes a repository in a directory.
func newRepo(t *testing.T, encrypted bool) *repo.Repo {
	t.Helper()
	store, err := repo.OpenDir(t.TempDir(), nil)
	require.NoError(t, err)
	o := &repo.Options{}
	if encrypted {
		id, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		o.Cipher, err = crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
		require.NoError(t, err)
	}
	r, err := repo.Init(context.Background(), store, o)
	require.NoError(t, err)
	return r
}

// pushAll archives all WAL that a cluster has written so far.
func pushAll(t *testing.T, c *pgtest.Cluster, r *repo.Repo) {
	t.Helper()
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for _, f := range pgtest.CompleteWAL(t, c) {
		require.NoError(t, a.Push(t.Context(), f), f)
	}
}
