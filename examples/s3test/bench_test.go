package s3test_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"github.com/pgcairn/pgcairn/wal"
)

// BenchmarkBacklog archives 64 ready segments of a server to S3, where each request takes 20 ms longer than it does on
// this machine: each by a process of its own, as an archive_command that knows nothing of the others does, though here
// without the start of the process; one by one; and several at a time. With few processors segments of 16 MiB are bound
// by their compression, which CPU-ms/segment tells, with what the proxy takes.
func BenchmarkBacklog(b *testing.B) {
	const (
		segments = 64
		latency  = 20 * time.Millisecond
	)
	service := s3test.Start(b)
	proxy := s3test.NewProxy(b, service.Endpoint)
	for _, size := range []int64{1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("segment=%dMiB", size>>20), func(b *testing.B) {
			pgdata := backlog(b, size, segments)
			ready, err := filepath.Glob(filepath.Join(pgdata, "pg_wal", "archive_status", "*.ready"))
			require.NoError(b, err)
			require.GreaterOrEqual(b, len(ready), segments)
			slices.Sort(ready)
			each := func(ctx context.Context, s repo.Store) error {
				for _, status := range ready[:segments] {
					a, err := openArchive(ctx, s)
					if err != nil {
						return err
					}
					name := strings.TrimSuffix(filepath.Base(status), ".ready")
					if err := a.Push(ctx, filepath.Join(pgdata, "pg_wal", name)); err != nil {
						return err
					}
				}
				return nil
			}
			for _, way := range []struct {
				name string
				push func(ctx context.Context, s repo.Store) error
			}{
				{"process=each", each},
				{"jobs=1", pushReady(pgdata, segments, 1)},
				{"jobs=8", pushReady(pgdata, segments, 8)},
			} {
				b.Run(way.name, func(b *testing.B) {
					b.SetBytes(segments * size)
					n, requests, cpu := 0, 0, time.Duration(0)
					for b.Loop() {
						b.StopTimer()
						n++
						s := openStore(b, proxy.Endpoint, &bucket.Options{Prefix: fmt.Sprintf("%s/%d/%d", b.Name(), b.N, n)})
						_, err := repo.Init(b.Context(), s, nil)
						require.NoError(b, err)
						proxy.Requests()
						proxy.Delay(latency)
						before := cpuTime(b)
						b.StartTimer()
						require.NoError(b, way.push(b.Context(), s))
						b.StopTimer()
						cpu += cpuTime(b) - before
						proxy.Delay(0)
						requests += len(proxy.Requests())
						require.Len(b, keys(b, s, "wal/"), segments)
						b.StartTimer()
					}
					b.ReportMetric(float64(requests)/float64(n*segments), "requests/segment")
					b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(n*segments), "ms/segment")
					b.ReportMetric(float64(cpu.Microseconds())/1000/float64(n*segments), "CPU-ms/segment")
				})
			}
		})
	}
}

func openArchive(ctx context.Context, s repo.Store) (*wal.Archive, error) {
	r, err := repo.Open(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	return wal.NewArchive(r, nil)
}

func pushReady(pgdata string, files, jobs int) func(context.Context, repo.Store) error {
	return func(ctx context.Context, s repo.Store) error {
		a, err := openArchive(ctx, s)
		if err != nil {
			return err
		}
		_, err = a.PushReady(ctx, pgdata, &wal.ReadyOptions{Jobs: jobs, Files: files, Time: time.Hour})
		return err
	}
}

// backlog returns the data directory of a server that has filled so many segments and not been able to archive any.
func backlog(b *testing.B, size int64, segments int) string {
	b.Helper()
	c := pgtest.New(b, &pgtest.Options{SegmentSize: size, Conf: map[string]string{
		"archive_mode": "on", "archive_command": "false", "max_wal_size": "4GB", "checkpoint_timeout": "1h",
	}})
	c.Exec(b, `create table t (id bigserial primary key, n int, text text)`, fmt.Sprintf(`do $$
		declare start pg_lsn := pg_current_wal_insert_lsn(); last bigint;
		begin
			while pg_current_wal_insert_lsn() - start < %d loop
				insert into t (n, text) select i, md5(i::text) || ' of row ' || i from generate_series(1, 5000) i ;
				select max(id) into last from t;
				update t set n = n + 1 where id > last - 2500 and id %% 3 = 0;
				commit;
			end loop;
		end $$`, int64(segments+1)*size))
	c.StopImmediate(b)
	return c.Data
}

// cpuTime is what this process, which is the client and the proxy, has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
