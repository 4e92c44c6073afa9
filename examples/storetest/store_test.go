package storetest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // what is tested
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/examples/storetest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
)

// stores are all kinds of stores that a repository may be in, and the major whose server walks the road there: each
// major is seen once.
var stores = []struct {
	name  string
	major int
	// open returns what makes a store of its own in each folder.
	open func(t *testing.T) func(t *testing.T, folder string) repo.Store
}{
	{"directory", 13, func(t *testing.T) func(*testing.T, string) repo.Store {
		dir := t.TempDir()
		return func(t *testing.T, folder string) repo.Store {
			s, err := repo.OpenDir(filepath.Join(dir, folder), nil)
			require.NoError(t, err)
			return s
		}
	}},
	{"memory", 14, func(*testing.T) func(*testing.T, string) repo.Store {
		return func(*testing.T, string) repo.Store {
			return repotest.Mem(&repotest.MemOptions{Now: time.Now})
		}
	}},
	{"versitygw", 15, inBucket(storetest.Versity)},
	{"MinIO", 16, inBucket(storetest.MinIO)},
	{"azurite", 17, inBucket(storetest.Azure)},
	{"fake-gcs-server", 18, inBucket(storetest.GCS)},
}

func inBucket(start func(testing.TB) storetest.Service) func(*testing.T) func(*testing.T, string) repo.Store {
	return func(t *testing.T) func(*testing.T, string) repo.Store {
		service := start(t)
		b := open(t, service)
		return func(_ *testing.T, folder string) repo.Store {
			// Each object goes in one request. In parts is for s3test; azurite takes an aborted upload in parts for an object.
			return bucket.New(b, &bucket.Options{Prefix: folder, BufferSize: 16 << 20})
		}
	}
}

// environment is one for all: what the SDKs are told by it, they read when a bucket is opened.
var environment sync.Mutex

func open(t *testing.T, service storetest.Service) *blob.Bucket {
	t.Helper()
	environment.Lock()
	defer environment.Unlock()
	for _, v := range service.Env {
		name, value, _ := strings.Cut(v, "=")
		require.NoError(t, os.Setenv(name, value)) //nolint:usetesting // tests run beside each other
	}
	b, err := blob.OpenBucket(t.Context(), service.URL)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	return b
}

// TestStores: every kind of store keeps what a Store has to, and has the whole road lead over it.
func TestStores(t *testing.T) {
	t.Parallel()
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			in := s.open(t)
			t.Run("conformance", func(t *testing.T) {
				repotest.TestStore(t, func(t *testing.T) repo.Store { return in(t, "some/where") })
			})
			t.Run("leases", func(t *testing.T) { contend(t, in(t, "leases")) })
			t.Run("road", func(t *testing.T) { road(t, in(t, "road"), s.major) })
		})
	}
}

// TestObjectLock: the whole road leads over buckets whose objects are retained. Not all else that a Store does: versitygw
// does not make an object again whose versions are hidden by a marker, which nothing here needs.
func TestObjectLock(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) storetest.Service{"versitygw": storetest.VersityLocked, "MinIO": storetest.MinIOLocked} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := inBucket(start)(t)
			contend(t, in(t, "leases"))
			road(t, in(t, "road"), pgtest.Newest())
		})
	}
}

// contend has hosts contend for a lease. They have no process of each other to look at, so that only the store decides.
func contend(t *testing.T, s repo.Store) {
	const hosts, turns = 4, 3
	var held, taken atomic.Int32
	var wg sync.WaitGroup
	for range hosts {
		r, err := repo.Init(t.Context(), s, nil)
		require.NoError(t, err)
		wg.Go(func() {
			for done := 0; done < turns; {
				err := r.WithLease(t.Context(), "turn", func(context.Context, *repo.Lease) error {
					assert.EqualValues(t, 1, held.Add(1), "held by two")
					taken.Add(1)
					done++
					held.Add(-1)
					return nil
				})
				var busy *repo.LeaseError
				if err != nil && !assert.ErrorAs(t, err, &busy) {
					return
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, hosts*turns, taken.Load())
}

// road backs up a cluster, pushes its WAL, backs up what has changed, recovers to an instant, which a server boots,
// and sheds what is not to be kept.
func road(t *testing.T, s repo.Store, major int) {
	r, err := repo.Init(t.Context(), s, nil)
	require.NoError(t, err)
	c := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{
		"archive_mode": "on", "archive_command": "false", "archive_timeout": "0",
	}})
	source, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
	require.NoError(t, err)
	c.Exec(t, `create table t as select i, md5(i::text) from generate_series(1, 20000) i`)
	full, err := backup.Take(t.Context(), r, source, nil)
	require.NoError(t, err)
	require.Equal(t, backup.Full, full.Type)
	c.Exec(t, `update t set i = -i where i % 1000 = 0`)
	pushAll(t, c, r)
	incremental, err := backup.Take(t.Context(), r, source, &backup.Options{Type: backup.Incremental})
	require.NoError(t, err)
	require.Equal(t, backup.Incremental, incremental.Type)
	require.Less(t, incremental.StoredBytes, full.StoredBytes/2)
	c.Exec(t, `create table precious as select i from generate_series(1, 100) i`)
	want := pgtest.Checksums(t, c)
	c.Exec(t, `select pg_create_restore_point('before')`, `drop table precious, t`)
	pushAll(t, c, r)

	r, err = repo.Open(t.Context(), s, nil)
	require.NoError(t, err)
	for _, id := range []backup.ID{"", full.ID} {
		plan, err := restore.Prepare(t.Context(), r, restore.AtName("before"), &restore.PlanOptions{Backup: id})
		require.NoError(t, err)
		dir := filepath.Join(pgtest.Dir(t), "data")
		_, err = plan.Run(t.Context(), r, dir, nil)
		require.NoError(t, err)
		require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, major, nil)), "%v", plan.Backup)
	}
	keep(t, r, incremental.ID, major, want)
}

// keep verifies a repository, and sheds all but the newest backup, which recovers still.
func keep(t *testing.T, r *repo.Repo, newest backup.ID, major int, want map[string]string) {
	t.Helper()
	verify := func() {
		t.Helper()
		report, err := backup.Verify(t.Context(), r, &backup.VerifyOptions{ReadData: true})
		require.NoError(t, err)
		require.True(t, report.OK(), "%s", report)
		require.Positive(t, report.ReadObjects+report.SkippedObjects)
	}
	verify()
	plan, err := retention.NewPlan(t.Context(), r, retention.Policy{KeepLast: 1}, nil)
	require.NoError(t, err)
	result, err := plan.Apply(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, result.Dropped, 1)
	require.Empty(t, result.Refused)
	require.Positive(t, result.FreedBytes)
	verify()
	p, err := restore.Prepare(t.Context(), r, restore.AtName("before"), nil)
	require.NoError(t, err)
	require.Equal(t, newest, p.Backup.ID)
	dir := filepath.Join(pgtest.Dir(t), "data")
	_, err = p.Run(t.Context(), r, dir, nil)
	require.NoError(t, err)
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, major, nil)))
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
