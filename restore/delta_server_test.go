package restore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/internal/process"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// deltaMajors are the servers of TestDeltaOverServers: the oldest and the newest, or all.
func deltaMajors() []int {
	all := pgtest.Majors()
	if *soak {
		return all
	}
	return []int{all[0], pgtest.Newest()}
}

// Over the data directory of a server that ran on, and was stopped or has crashed, a delta restore makes what the archive
// holds, and fetches less than all. While the server runs nothing is touched.
func TestDeltaOverServers(t *testing.T) {
	t.Parallel()
	for _, major := range deltaMajors() {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, &pgtest.Options{Major: major, Conf: archiving(), SegmentSize: 1 << 20})
			c.Exec(t, fmt.Sprintf(`create tablespace fast location '%s'`, ownDir(t, pgtest.Dir(t), "fast")),
				`create table quiet as select i, repeat(md5(i::text), 20) as pad from generate_series(1, 20000) i`,
				`create table busy (i int primary key, pad text)`,
				`insert into busy select i, md5(i::text) from generate_series(1, 5000) i`,
				`create table in_fast tablespace fast as select i, md5(i::text) as pad from generate_series(1, 20000) i`,
				`create table lost as select 1 as i`, `create database other`,
				`vacuum (freeze)`) // or a page changes by being read
			var read atomic.Int64
			dir := t.TempDir()
			store, err := repo.OpenDir(dir, nil)
			require.NoError(t, err)
			r, err := repo.Init(t.Context(), repo.Observe(store, func(o repo.Op) {
				if kindOf(o.Key) == "packs" && o.Name == "open" {
					read.Add(o.Bytes)
				}
			}), nil)
			require.NoError(t, err)
			full, err := backup.Take(t.Context(), r, source(t, c), nil)
			require.NoError(t, err)
			c.Exec(t, `update busy set pad = 'later' where i % 7 = 0`, `create table added as select 2 as i`)
			incremental, err := backup.Take(t.Context(), r, source(t, c), &backup.Options{Type: backup.Incremental})
			require.NoError(t, err)
			c.Exec(t, `insert into in_fast values (0, 'last')`)
			want := pgtest.Checksums(t, c)
			pushAll(t, c, r)

			base := pgtest.Dir(t)
			data := filepath.Join(base, "data")
			run := func(m *backup.Manifest, o restore.Options) (*restore.Result, error) {
				p, err := restore.Prepare(t.Context(), r, restore.Latest(), &restore.PlanOptions{Backup: m.ID})
				require.NoError(t, err)
				o.Tablespaces = map[string]string{"fast": filepath.Join(base, "fast")}
				read.Store(0)
				return p.Run(t.Context(), r, data, &o)
			}
			result, err := run(incremental, restore.Options{})
			require.NoError(t, err)
			require.Zero(t, result.ReusedBytes)
			for i, end := range []func(*pgtest.Cluster){
				func(b *pgtest.Cluster) { b.Kill9(t) },
				func(b *pgtest.Cluster) { b.Stop(t) },
			} {
				b := pgtest.Boot(t, data, major, nil)
				require.Equal(t, want, pgtest.Checksums(t, b))
				b.Exec(t, `update quiet set pad = 'lost' where i % 5000 = 0`, `drop table lost`, `truncate busy`, `drop database other`,
					`create table of_its_own tablespace fast as select generate_series(1, 10000) as i`, `checkpoint`,
					`alter system set work_mem = '8MB'`, `insert into in_fast values (0, 'lost')`)
				_, err := run(full, restore.Options{Delta: true, Overwrite: i%2 == 0})
				var running *restore.RunningError
				require.ErrorAs(t, err, &running)
				require.Equal(t, data, running.Directory)
				require.Positive(t, running.PID)
				require.Equal(t, int64(2), pgtest.Value[int64](t, b, `select count(*) from in_fast where i = 0`), "it is not disturbed")
				end(b)
				_, err = os.Lstat(filepath.Join(data, "postmaster.pid"))
				require.Equal(t, i == 0, err == nil, "a crash leaves it")

				m := []*backup.Manifest{full, incremental}[i]
				result, err := run(m, restore.Options{Delta: true})
				require.NoError(t, err)
				require.Positive(t, result.ReusedBytes)
				require.Less(t, read.Load(), full.StoredBytes)
				t.Logf("%d bytes were restored, %d reused; %d bytes of packs were read", result.RestoredBytes, result.ReusedBytes, read.Load())
			}
			b := pgtest.Boot(t, data, major, nil)
			require.Equal(t, want, pgtest.Checksums(t, b))
			require.NotEqual(t, "8MB", pgtest.Value[string](t, b, `show work_mem`))
			pgtest.Amcheck(t, b)
		})
	}
}

// A server that was killed may leave processes that still write to its files: these count as the server.
func TestDeltaSparesOrphans(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Conf: archiving()})
	r := newRepo(t, false)
	_, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	want := pgtest.Checksums(t, c)
	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), nil)
	require.NoError(t, err)
	conn := c.Connect(t)
	orphan := int(conn.PgConn().PID())
	go func() {
		_, _ = conn.Exec(context.Background(), `select count(*) from generate_series(1, 1e12::bigint)`)
	}()
	c.Await(t, `select count(*) = 1 from pg_stat_activity where query like '%1e12%' and state = 'active' and pid <> pg_backend_pid()`)
	b, err := os.ReadFile(filepath.Join(c.Data, "postmaster.pid"))
	require.NoError(t, err)
	lock, err := pgfile.ParseLockFile(b)
	require.NoError(t, err)
	require.NotZero(t, lock.ShmID)
	require.NoError(t, syscall.Kill(lock.PID, syscall.SIGKILL))
	require.Eventually(t, func() bool { return !process.Alive(lock.PID) }, time.Minute, time.Millisecond)

	_, err = p.Run(t.Context(), r, c.Data, &restore.Options{Delta: true})
	var running *restore.RunningError
	require.ErrorAs(t, err, &running)
	require.Contains(t, running.Reason, "share its memory")
	require.NoError(t, syscall.Kill(orphan, syscall.SIGKILL))
	require.Eventually(t, func() bool { return !process.Alive(orphan) }, time.Minute, time.Millisecond)
	c.Kill9(t) // whatever else is left
	_, err = p.Run(t.Context(), r, c.Data, &restore.Options{Delta: true})
	require.NoError(t, err)
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, c.Data, 0, nil)))
}
