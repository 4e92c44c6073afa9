package pgwire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// TestBaseBackupBreaks ends backups before their end, in every way. None of them looks complete, and nothing is left.
func TestBaseBackupBreaks(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		o := quiet(major)
		o.Conf["checkpoint_timeout"] = "1d"
		c := pgtest.New(t, o)
		for name, do := range map[string]func(t *testing.T, b *pgwire.Backup, conn *pgconn.PgConn, cancel context.CancelFunc) error{
			"cancelled": func(t *testing.T, b *pgwire.Backup, _ *pgconn.PgConn, cancel context.CancelFunc) error {
				cancel()
				err := finish(b)
				require.ErrorIs(t, err, context.Canceled)
				return err
			},
			"cancelled in a read": func(t *testing.T, b *pgwire.Backup, _ *pgconn.PgConn, cancel context.CancelFunc) error {
				defer time.AfterFunc(time.Millisecond, cancel).Stop()
				if err := finish(b); !errors.Is(err, io.EOF) { // unless it was fast
					require.ErrorIs(t, err, context.Canceled)
				}
				cancel()
				return context.Canceled
			},
			"closed": func(t *testing.T, b *pgwire.Backup, _ *pgconn.PgConn, _ context.CancelFunc) error {
				b.Close()
				return finish(b)
			},
			"closed by the server": func(t *testing.T, b *pgwire.Backup, conn *pgconn.PgConn, _ context.CancelFunc) error {
				require.True(t, pgtest.Value[bool](t, c, "SELECT pg_terminate_backend($1)", int32(conn.PID())))
				return finish(b)
			},
			"cancelled on the server": func(t *testing.T, b *pgwire.Backup, conn *pgconn.PgConn, _ context.CancelFunc) error {
				require.True(t, pgtest.Value[bool](t, c, "SELECT pg_cancel_backend($1)", int32(conn.PID())))
				err := finish(b)
				var cancelled *pgconn.PgError
				require.ErrorAs(t, err, &cancelled)
				require.Equal(t, "57014", cancelled.Code)
				return err
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			conn := replicate(t, c.DSN("postgres"))
			err := do(t, someOf(t, ctx, conn), conn, cancel)
			require.Error(t, err, name)
			require.NotErrorIs(t, err, io.EOF, name)
			cancel()
			requireQuiet(t, c)
			requireNoGoroutine(t)
		}
		proxy := newProxy(t, c)
		for _, n := range []int64{0, 1, 100, 5_000, 1_000_000, 10_000_000} {
			conn := replicate(t, proxy.dsn)
			proxy.left.Store(n)
			b, err := pgwire.BaseBackup(t.Context(), conn, &pgwire.BackupOptions{Fast: true})
			if err == nil {
				err = finish(b)
			}
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
			require.True(t, conn.IsClosed())
			proxy.left.Store(1 << 62)
			requireQuiet(t, c)
		}

		// A server that waits for its checkpoint is not left waiting.
		c.Exec(t, "CREATE TABLE plain AS SELECT * FROM generate_series(1, 500000) i")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		result := make(chan error, 1)
		conn := replicate(t, c.DSN("postgres"))
		go func() {
			_, err := pgwire.BaseBackup(ctx, conn, nil)
			result <- err
		}()
		const waiting = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase = 'waiting for checkpoint to finish'"
		require.Eventually(t, func() bool { return pgtest.Value[int64](t, c, waiting) == 1 }, time.Minute, 10*time.Millisecond)
		cancel()
		require.ErrorIs(t, <-result, context.Canceled)
		requireQuiet(t, c)

		for _, die := range []func(testing.TB){c.StopImmediate, c.Kill9} {
			conn := replicate(t, c.DSN("postgres"))
			b := someOf(t, t.Context(), conn)
			die(t)
			err := finish(b)
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
			require.True(t, conn.IsClosed())
			c.Start(t)
		}
	})
}

// someOf begins a backup and reads a bit of it.
func someOf(t *testing.T, ctx context.Context, conn *pgconn.PgConn) *pgwire.Backup {
	t.Helper()
	b, err := pgwire.BaseBackup(ctx, conn, &pgwire.BackupOptions{Fast: true, Manifest: true})
	require.NoError(t, err)
	for range 20 {
		_, err := b.Next()
		require.NoError(t, err)
	}
	return b
}

// finish reads the rest of a backup.
func finish(b *pgwire.Backup) error {
	for {
		if _, err := b.Next(); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, b); err != nil {
			return err
		}
	}
}

// requireQuiet requires that a server soon has no connection for replication.
func requireQuiet(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	const busy = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"
	require.Eventually(t, func() bool { return pgtest.Value[int64](t, c, busy) == 0 }, time.Minute, 10*time.Millisecond)
}

// requireNoGoroutine requires that soon no goroutine waits for what a backup has left to it.
func requireNoGoroutine(t *testing.T) {
	t.Helper()
	all := make([]byte, 4<<20)
	require.Eventually(t, func() bool {
		return !bytes.Contains(all[:runtime.Stack(all, true)], []byte("pgwire.(*Backup).attach"))
	}, time.Minute, 10*time.Millisecond)
}

// proxy passes connections on to a server, and cuts them after some bytes of it.
type proxy struct {
	dsn  string       // by way of the proxy
	left atomic.Int64 // bytes that the server may still send
}

func newProxy(t *testing.T, c *pgtest.Cluster) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	p := &proxy{dsn: strings.NewReplacer("host="+c.Socket, "host=127.0.0.1", fmt.Sprintf("port=%d", c.Port), "port="+port).Replace(c.DSN("postgres"))}
	p.left.Store(1 << 62)
	var passing sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		passing.Wait()
	})
	passing.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", fmt.Sprintf("%s/.s.PGSQL.%d", c.Socket, c.Port))
			if err != nil {
				client.Close()
				continue
			}
			passing.Go(func() {
				io.Copy(server, client)
				server.Close()
			})
			passing.Go(func() {
				p.pass(client, server)
				client.Close()
				server.Close()
			})
		}
	})
	return p
}

// pass passes on what a server sends.
func (p *proxy) pass(client, server net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := server.Read(b)
		left := p.left.Add(-int64(n))
		if _, werr := client.Write(b[:max(0, min(int64(n), left+int64(n)))]); err != nil || werr != nil || left <= 0 {
			return
		}
	}
}
