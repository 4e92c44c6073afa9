package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestS3HostLost loses a host with all that runs on it: a server under load, whose data is deleted, and the receiver
// that streams its WAL to a bucket, by which alone it is archived. Recovery from the bucket has lost the commits of at
// most --flush-every and a request or, where commits wait for the receiver, none.
func TestS3HostLost(t *testing.T) {
	t.Parallel()
	const (
		flushEvery = 300 * time.Millisecond
		slack      = 3 * time.Second // how long a request may take on a busy machine
	)
	for _, l := range []struct {
		name        string
		major       int
		encrypted   bool
		synchronous bool
		flushEvery  string
	}{
		{name: "asynchronous, encrypted", major: 17, encrypted: true, flushEvery: flushEvery.String()},
		{name: "synchronous", major: 18, synchronous: true, flushEvery: "0s"},
	} {
		t.Run(l.name, func(t *testing.T) {
			h := newHost(t).onS3(s3test.Start(t).Endpoint)
			writer, reader := h, h
			if l.encrypted {
				writer, reader = h.writer(), h.reader()
			}
			writer.ok(t, "init")
			c := pgtest.New(t, &pgtest.Options{Major: l.major, SegmentSize: 1 << 20, Conf: map[string]string{"synchronous_commit": "local"}})
			near := writer.with("PGHOST="+c.Socket, "PGUSER=postgres")
			r := startReceiver(t, near, "--slot", "lost", "--create-slot", "--application-name", "cairn", "--flush-every", l.flushEvery)
			near.ok(t, "backup", "--pgdata", c.Data)
			c.Exec(t, `create table beat (at timestamptz primary key)`)
			awaitReceiver(t, c)
			if l.synchronous {
				c.Exec(t, `alter system set synchronous_standby_names = 'cairn'`, `alter system set synchronous_commit = 'on'`, `select pg_reload_conf()`)
			}
			load := pgtest.StartLoad(t, c, &pgtest.LoadOptions{MayBreak: true, Pause: 5 * time.Millisecond})
			beats := beat(t, c, 2*time.Second)
			told := pgtest.Value[string](t, c, `select flush_lsn::text from pg_stat_replication where application_name = 'cairn'`)

			lost := time.Now()
			require.NoError(t, r.cmd.Process.Kill())
			c.Kill9(t)
			require.NoError(t, os.RemoveAll(c.Data))
			_ = r.cmd.Wait()
			counts := load.Stop(t)
			require.Greater(t, counts.Transactions, int64(20), r.stderr.String())

			dir := filepath.Join(pgtest.Dir(t), "data")
			reader.ok(t, "restore", dir, "--wal", "staged")
			b := pgtest.Boot(t, dir, 0, &pgtest.BootOptions{Conf: map[string]string{"synchronous_standby_names": ""}})
			require.True(t, pgtest.Value[bool](t, b, `select pg_current_wal_lsn() >= $1::text::pg_lsn`, told), "the server was told that it has %s", told)
			last := pgtest.Value[time.Time](t, b, `select max(at) from beat`)
			t.Logf("the last of %d beats is of %v before the end", len(beats), lost.Sub(last))
			for _, at := range beats {
				if l.synchronous || lost.Sub(at) > flushEvery+slack {
					require.False(t, last.Before(at), "a commit confirmed at %v is lost, %v before the end", at, lost.Sub(at))
				}
			}
			if l.synchronous {
				ids := pgtest.Value[[]int64](t, b, `select coalesce(array_agg(id), '{}') from pgtest_load`)
				require.Subset(t, ids, counts.Live, "a row that was confirmed is lost")
			}
			pgtest.Amcheck(t, b)
		})
	}
}

// awaitReceiver waits until all that a server has is received.
func awaitReceiver(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	at := pgtest.Value[string](t, c, `select pg_current_wal_flush_lsn()::text`)
	require.Eventually(t, func() bool {
		return pgtest.Value[bool](t, c, `select exists (select from pg_stat_replication where flush_lsn >= $1::text::pg_lsn)`, at)
	}, patience, pollEvery, "%s", c.Log(t))
}

// beat commits for a while, and returns the times of what was confirmed.
func beat(t *testing.T, c *pgtest.Cluster, d time.Duration) (confirmed []time.Time) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for begun := time.Now(); time.Since(begun) < d; time.Sleep(5 * time.Millisecond) {
		var at time.Time
		require.NoError(t, conn.QueryRow(t.Context(), `insert into beat values (clock_timestamp()) returning at`).Scan(&at))
		confirmed = append(confirmed, at)
	}
	return confirmed
}
