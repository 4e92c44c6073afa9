package restore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// sqlSource is a cluster by SQL, as a role that may do what that takes and nothing else.
func sqlSource(t *testing.T, c *pgtest.Cluster) backup.Source {
	t.Helper()
	s, err := backup.SQL(strings.Replace(c.DSN("postgres"), "user=postgres", "user=backup", 1), nil)
	require.NoError(t, err)
	c.Exec(t, `create role backup login replication`)
	_, err = s.Begin(t.Context(), backup.BeginOptions{})
	var denied *backup.PrivilegeError
	require.ErrorAs(t, err, &denied)
	c.Exec(t, denied.Grant())
	return s
}

// sourceOf makes a source of a cluster.
type sourceOf func(t *testing.T, c *pgtest.Cluster) backup.Source

// bySource repeats a test with each source.
func bySource(t *testing.T, f func(t *testing.T, source sourceOf)) {
	t.Helper()
	for name, source := range map[string]sourceOf{"directory": source, "sql": sqlSource, "replication": replicationSource} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, source)
		})
	}
}

// TestRoadBySQL walks the main road with a source that reads by SQL: a backup under a load of writes, and of tables that
// come and go, in a tablespace too; its restore, and recovery to the end of the WAL.
func TestRoadBySQL(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: archiving()})
		base := pgtest.Dir(t)
		c.Exec(t, fmt.Sprintf(`create tablespace fast location '%s'`, ownDir(t, base, "old")),
			`create table there tablespace fast as select i, md5(i::text) from generate_series(1, 20000) i`, `create index on there (i)`)
		r := newRepo(t, true)
		s := sqlSource(t, c)
		load := pgtest.StartLoad(t, c, nil)
		stop := churn(t, c)
		m, err := backup.Take(t.Context(), r, s, &backup.Options{Jobs: 4})
		require.NoError(t, err)
		require.Zero(t, m.BadPages)
		require.Len(t, m.Tablespaces, 1)
		stop()
		require.Positive(t, load.Stop(t).Transactions)
		want := pgtest.Checksums(t, c)
		pushAll(t, c, r)
		c.Stop(t)
		require.NoError(t, os.RemoveAll(c.Data))
		require.NoError(t, os.RemoveAll(filepath.Join(base, "old")))

		o := &restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(base, "new")}}
		b := recovered(t, r, restore.Latest(), nil, o, nil)
		require.Equal(t, want, pgtest.Checksums(t, b))
		pgtest.Amcheck(t, b)
		if major == pgtest.DistroMajor(t) {
			b.Stop(t)
			pgtest.PgChecksums(t, b.Data)
		}
	})
}

// churn has tables come, change files and go until it is stopped.
func churn(t *testing.T, c *pgtest.Cluster) (stop func()) {
	t.Helper()
	conn := c.Connect(t)
	c.Exec(t, `create table churned as select i, md5(i::text) from generate_series(1, 1000) i`)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var failed error
	done.Go(func() {
		for n := 3; ctx.Err() == nil; n++ {
			for _, sql := range []string{
				`create table new tablespace fast as select i, md5(i::text) from generate_series(1, 3000) i`,
				`create index on new (i)`, `delete from new where i > 500`, `vacuum new`,
				`truncate churned`, `insert into churned select i, 'new' from generate_series(1, 1000) i`, `vacuum full churned`,
				`alter table new set tablespace pg_default`, `drop table if exists old`,
			} {
				sql = strings.NewReplacer("new", fmt.Sprintf("c%d", n), "old", fmt.Sprintf("c%d", n-3)).Replace(sql)
				if _, failed = conn.Exec(context.WithoutCancel(ctx), sql); failed != nil {
					return
				}
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
		require.NoError(t, failed)
	}
}
