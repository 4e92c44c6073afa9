package pgtest_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// fill makes something of every kind that Checksums looks at.
func fill(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t,
		`CREATE DATABASE "other db"`,
		`CREATE TABLE plain AS SELECT i, md5(i::text) AS s, i::float8 / 3 AS f, now() AS at FROM generate_series(1, 1000) i`,
		`ALTER TABLE plain ADD PRIMARY KEY (i)`,
		`CREATE TABLE parted (i int) PARTITION BY RANGE (i)`,
		`CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100)`,
		`INSERT INTO parted SELECT generate_series(0, 99)`,
		`CREATE TABLE wide AS SELECT string_agg(md5(i::text), '') AS s FROM generate_series(1, 5000) i`,
		`CREATE TABLE empty ()`,
		`CREATE UNLOGGED TABLE forgotten AS SELECT 1 AS i`,
		`CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM plain`,
		`CREATE MATERIALIZED VIEW unseen AS SELECT count(*) FROM plain WITH NO DATA`,
		`CREATE SEQUENCE "Steps" INCREMENT 5`,
		`SELECT nextval('"Steps"') FROM generate_series(1, 7)`,
		`SELECT lo_from_bytea(0, 'large')`,
	)
	c.ExecIn(t, "other db", `CREATE SCHEMA s`, `CREATE TABLE s."Odd.Name" AS SELECT 1 AS i`)
}

func TestEveryMajor(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: 1 << 20, Conf: map[string]string{"cluster_name": `it's \ odd`}})
		assert.Equal(t, int32(major), pgtest.Value[int32](t, c, "SELECT current_setting('server_version_num')::int / 10000"))
		assert.Equal(t, "on", pgtest.Value[string](t, c, "SHOW data_checksums"))
		assert.Equal(t, "1MB", pgtest.Value[string](t, c, "SHOW wal_segment_size"))
		assert.Equal(t, `it's \ odd`, pgtest.Value[string](t, c, "SHOW cluster_name"))

		fill(t, c)
		before := pgtest.Checksums(t, c)
		assert.Contains(t, before["postgres.public.plain"], "1000 rows, hash ")
		assert.Contains(t, before["postgres.public.parted_1"], "100 rows, hash ")
		assert.Equal(t, "0 rows, hash 0", before["postgres.public.empty"])
		assert.Equal(t, "not populated", before["postgres.public.unseen"])
		assert.Contains(t, before["postgres.pg_catalog.pg_largeobject"], "1 rows")
		assert.Contains(t, before, "other db.s.Odd.Name")
		assert.Contains(t, before, "template1")
		assert.Contains(t, before, "postgres.public.Steps")
		assert.NotContains(t, before, "postgres.public.parted")
		assert.NotContains(t, before, "postgres.public.forgotten")
		pgtest.Amcheck(t, c)
		before = pgtest.Checksums(t, c) // amcheck is a new extension without tables
		c.Restart(t)
		assert.Equal(t, before, pgtest.Checksums(t, c), "after a restart")
		c.Kill9(t)
		c.Start(t)
		assert.Equal(t, before, pgtest.Checksums(t, c), "after a crash")

		c.Stop(t)
		assert.False(t, c.Running())
		clone := pgtest.Boot(t, pgtest.Copy(t, c.Data), 0, nil)
		assert.Equal(t, major, clone.Major)
		assert.Equal(t, before, pgtest.Checksums(t, clone), "in a copy")
		clone.Exec(t, "UPDATE plain SET s = 'changed' WHERE i = 500", `SELECT nextval('"Steps"') FROM generate_series(1, 40)`)
		after := pgtest.Checksums(t, clone)
		for _, changed := range []string{"postgres.public.plain", "postgres.public.Steps"} {
			assert.NotEqual(t, before[changed], after[changed])
			delete(before, changed)
		}
		assert.Subset(t, after, before, "nothing else has changed")
	})
}

func TestDistroHasEveryTool(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Distro: true})
	c.Exec(t, "CREATE TABLE t AS SELECT generate_series(1, 1000) i")
	for _, tool := range []string{"pg_checksums", "pg_amcheck", "pg_verifybackup", "pg_waldump", "pg_controldata", "psql"} {
		assert.FileExists(t, c.Bin(t, tool))
	}
	pgtest.Run(t, c.Bin(t, "pg_amcheck"), "--install-missing", "--all", "--heapallindexed", "--host="+c.Socket, "--username=postgres")
	c.Stop(t)
	pgtest.PgChecksums(t, c.Data)
}

func TestPgChecksumsFindsDamage(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Distro: true})
	c.Exec(t, "CREATE TABLE t AS SELECT generate_series(1, 1000) i", "CHECKPOINT")
	path := filepath.Join(c.Data, pgtest.Value[string](t, c, "SELECT pg_relation_filepath('t')"))
	c.Stop(t)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("damage"), 5000)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	out, err := pgtest.Command(t, c.Bin(t, "pg_checksums"), "--check", "--pgdata="+c.Data).CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "Bad checksums:  1")
}

func TestBootOfAHalfDirectoryIsAnError(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	c.Stop(t)
	half := pgtest.Copy(t, c.Data)
	require.NoError(t, os.Remove(filepath.Join(half, "global", "pg_control")))
	_, err := pgtest.TryBoot(t, half, 0, nil)
	require.ErrorContains(t, err, "pg_control")

	require.NoError(t, os.Remove(filepath.Join(half, "PG_VERSION")))
	_, err = pgtest.TryBoot(t, half, 0, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestBootReachesADirectoryOfGoTest(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	space := pgtest.Dir(t)
	c.Exec(t, "CREATE TABLESPACE space LOCATION '"+space+"'", "CREATE TABLE t TABLESPACE space AS SELECT 1 AS i")
	c.Stop(t)
	dir := filepath.Join(t.TempDir(), "restored") // go test makes 0700 directories
	require.NoError(t, os.CopyFS(dir, os.DirFS(c.Data)))
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, os.Chown(space, os.Getuid(), os.Getgid()))
	b := pgtest.Boot(t, dir, pgtest.Newest(), &pgtest.BootOptions{Conf: map[string]string{"work_mem": "5MB"}})
	assert.Equal(t, int32(1), pgtest.Value[int32](t, b, "SELECT i FROM t"))
	assert.Equal(t, "5MB", pgtest.Value[string](t, b, "SHOW work_mem"))
}

func TestStandbyAndPromotion(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	c.Stop(t)
	dir := pgtest.Copy(t, c.Data)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600))
	_, err := pgtest.TryBoot(t, dir, 0, &pgtest.BootOptions{Timeout: 2 * time.Second})
	require.ErrorContains(t, err, "still in recovery")
	s := pgtest.Boot(t, dir, 0, &pgtest.BootOptions{Standby: true})
	assert.True(t, pgtest.Value[bool](t, s, "SELECT pg_is_in_recovery()"))
	assert.True(t, pgtest.Value[bool](t, s, "SELECT pg_promote()"))
	assert.False(t, pgtest.Value[bool](t, s, "SELECT pg_is_in_recovery()"))
	assert.Contains(t, s.Log(t), "received promote request")
}

func TestFollow(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	near := c.Follow(t, nil)
	far := near.Follow(t, nil)
	assert.True(t, near.InRecovery(t))
	assert.False(t, c.InRecovery(t))
	c.Exec(t, "CREATE TABLE t AS SELECT 7 AS i")
	near.CatchUp(t, c)
	far.CatchUp(t, near)
	assert.Equal(t, pgtest.Checksums(t, c), pgtest.Checksums(t, far))
}

func TestTCP(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{TCP: true, NoChecksums: true, Fsync: true, Env: []string{"PGTEST_PROBE=there"}})
	assert.Equal(t, "127.0.0.1", pgtest.Value[string](t, c, "SHOW listen_addresses"))
	assert.Equal(t, "off", pgtest.Value[string](t, c, "SHOW data_checksums"))
	assert.Equal(t, "on", pgtest.Value[string](t, c, "SHOW fsync"))
	c.Exec(t, `CREATE TABLE seen (s text)`, `COPY seen FROM PROGRAM 'echo $PGTEST_PROBE'`)
	assert.Equal(t, "there", pgtest.Value[string](t, c, "SELECT s FROM seen"))
}

func TestReload(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	c.Exec(t, "ALTER SYSTEM SET work_mem = '7MB'")
	c.Reload(t)
	require.Eventually(t, func() bool { return pgtest.Value[string](t, c, "SHOW work_mem") == "7MB" }, time.Minute, 10*time.Millisecond)
}

func TestLoadKnowsWhatItWrote(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*pgtest.Cluster, *testing.T){
		"in order":  func(*pgtest.Cluster, *testing.T) {},
		"immediate": func(c *pgtest.Cluster, t *testing.T) { c.StopImmediate(t) },
		"killed":    func(c *pgtest.Cluster, t *testing.T) { c.Kill9(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, nil)
			load := pgtest.StartLoad(t, c, &pgtest.LoadOptions{MayBreak: name != "in order"})
			require.Eventually(t, func() bool {
				return pgtest.Value[int64](t, c, "SELECT count(*) FROM pgtest_load WHERE changes > 0") > 100
			}, time.Minute, 10*time.Millisecond)
			end(c, t)
			counts := load.Stop(t)
			assert.Positive(t, counts.Transactions)
			assert.Positive(t, counts.Updates)
			assert.Positive(t, counts.Deletes)
			if !c.Running() {
				c.Start(t)
			}
			there := pgtest.Value[[]int64](t, c, "SELECT array_agg(id ORDER BY id) FROM pgtest_load")
			assert.Subset(t, there, counts.Live)
			if name == "in order" {
				assert.Equal(t, there, counts.Live)
				assert.Len(t, there, int(counts.Inserts-counts.Deletes))
			}
			pgtest.Amcheck(t, c)
		})
	}
}

func TestPgbenchRunsOnEveryMajor(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major})
		b := pgtest.StartPgbench(t, c, &pgtest.PgbenchOptions{Clients: 3, Rate: 500})
		require.Eventually(t, func() bool {
			return pgtest.Value[int64](t, c, "SELECT count(*) FROM pgbench_history") > 50
		}, time.Minute, 10*time.Millisecond)
		transactions := b.Stop(t)
		assert.Greater(t, transactions, int64(50))
		// What the load is made of holds: see pgbench's documentation, "What Is the Transaction Actually Performed".
		assert.Equal(t, pgtest.Value[int64](t, c, "SELECT sum(delta) FROM pgbench_history"),
			pgtest.Value[int64](t, c, "SELECT sum(abalance) FROM pgbench_accounts"))
	})
}

func TestServersRunAsAnotherUserThanRoot(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	info, err := os.Stat(filepath.Join(c.Data, "postmaster.pid"))
	require.NoError(t, err)
	assert.NotZero(t, info.Sys().(*syscall.Stat_t).Uid)
}
