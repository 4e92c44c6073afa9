package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// sqlSource is a cluster by SQL.
func sqlSource(t *testing.T, conn string, o *backup.SQLOptions) backup.Source {
	t.Helper()
	s, err := backup.SQL(conn, o)
	require.NoError(t, err)
	return s
}

// as makes a connection string one for another role.
func as(role, dsn string) string { return strings.Replace(dsn, "user=postgres", "user="+role, 1) }

// begin begins a backup that ends with the test.
func begin(t *testing.T, s backup.Source) backup.Session {
	t.Helper()
	session, err := s.Begin(t.Context(), backup.BeginOptions{Label: t.Name()})
	require.NoError(t, err)
	t.Cleanup(func() { session.Close() })
	return session
}

// requireFails requires that a backup fails, and leaves nothing behind: neither in the repository nor on the server,
// where another can begin at once.
func requireFails(t *testing.T, c *pgtest.Cluster, s, again backup.Source) error {
	t.Helper()
	r := newRepo(t, nil, nil)
	_, err := backup.Take(t.Context(), r, s, &backup.Options{Jobs: 2})
	requireNoAnswer(t, err)
	require.NotErrorIs(t, err, io.EOF)
	require.Empty(t, keys(t, r.Store(), "backups/"))
	require.Empty(t, keys(t, r.Store(), "packs/"))
	requireQuiet(t, c)
	if again != nil {
		session, err := again.Begin(t.Context(), backup.BeginOptions{})
		require.NoError(t, err)
		require.NoError(t, session.Close())
		requireQuiet(t, c)
	}
	return err
}

// newRole makes a role that may do what a backup by SQL takes, and nothing else. The error that one gets who may not
// knows what that is.
func newRole(t *testing.T, c *pgtest.Cluster, create string) (dsn string) {
	t.Helper()
	c.Exec(t, create)
	dsn = as(strings.Fields(create)[2], c.DSN("postgres"))
	_, err := sqlSource(t, dsn, nil).Begin(t.Context(), backup.BeginOptions{})
	var denied *backup.PrivilegeError
	require.ErrorAs(t, err, &denied)
	c.Exec(t, denied.Grant())
	return dsn
}

// atOpen does something when files are opened for the nth time.
type atOpen struct {
	backup.Source
	n    int64
	what func()
}

func (a atOpen) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	s, err := a.Source.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return &atOpenSession{Session: s, Lister: s.(backup.Lister), a: a}, nil
}

type atOpenSession struct {
	backup.Session
	backup.Lister
	a      atOpen
	opened atomic.Int64
}

func (s *atOpenSession) Open(ctx context.Context, path string) (backup.Content, error) {
	if s.opened.Add(1) == s.a.n {
		s.a.what()
	}
	return s.Session.Open(ctx, path)
}

const (
	terminateHolder  = `select pg_terminate_backend(active_pid) from pg_replication_slots`
	terminateReaders = `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgcairn'
		and pid not in (select active_pid from pg_replication_slots where active_pid is not null)`
)

// Whatever ends the backup on the server, the error says so, at the latest when the backup is stopped.
func TestSQLSessionIsLost(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	c.Exec(t, `create table t as select i, md5(i::text) from generate_series(1, 100000) i`)
	source := backup.Impatient(sqlSource(t, c.DSN("postgres"), nil))
	lost := func(t *testing.T, s backup.Source, again backup.Source) {
		t.Helper()
		var lost *backup.SessionLostError
		require.ErrorAs(t, requireFails(t, c, s, again), &lost)
	}
	t.Run("terminated before files are read", func(t *testing.T) {
		lost(t, backuptest.Meanwhile{Source: source, Listing: func() { c.Exec(t, terminateHolder) }}, source)
	})
	t.Run("terminated while files are read", func(t *testing.T) {
		lost(t, atOpen{source, 100, func() { c.Exec(t, terminateHolder) }}, source)
	})
	t.Run("found out by a connection that reads", func(t *testing.T) {
		lost(t, atOpen{source, 100, func() { c.Exec(t, terminateHolder, terminateReaders) }}, source)
	})
	t.Run("found out by looking now and then", func(t *testing.T) {
		session := begin(t, backup.Watchful(sqlSource(t, c.DSN("postgres"), nil)))
		content := open(t, session, "pg_hba.conf")
		c.Exec(t, terminateHolder)
		p := make([]byte, 1)
		require.Eventually(t, func() bool {
			_, err := content.ReadAt(p, 10)
			var lost *backup.SessionLostError
			return errors.As(err, &lost)
		}, 10*time.Second, time.Millisecond)
		_, err := session.Open(t.Context(), "PG_VERSION")
		var lost *backup.SessionLostError
		require.ErrorAs(t, err, &lost)
		requireNoAnswer(t, err)
		_, err = session.Stop(t.Context())
		require.ErrorAs(t, err, &lost)
	})
	t.Run("server restarts", func(t *testing.T) {
		lost(t, atOpen{source, 100, func() { c.Restart(t) }}, source)
	})
	t.Run("server crashes", func(t *testing.T) {
		lost(t, atOpen{source, 100, func() {
			c.Kill9(t)
			c.Start(t)
		}}, source)
	})
	t.Run("server goes down", func(t *testing.T) {
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, atOpen{source, 100, func() { c.StopImmediate(t) }}, nil)
		requireNoAnswer(t, err)
		var lost *backup.SessionLostError
		require.ErrorAs(t, err, &lost)
		require.Empty(t, keys(t, r.Store(), "backups/"))
	})
}

func TestSQL(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	source := sqlSource(t, c.DSN("postgres"), nil)

	t.Run("connection fails", func(t *testing.T) {
		_, err := backup.SQL("host=/nowhere port=none password=secret", nil)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
		err = requireFails(t, c, sqlSource(t, "host=/nowhere user=postgres password=secret", nil), nil)
		var connect *pgconn.ConnectError
		require.ErrorAs(t, err, &connect)
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("connections for reading are refused", func(t *testing.T) {
		var n atomic.Int64
		s := sqlSource(t, "", &backup.SQLOptions{Connect: func(ctx context.Context) (*pgx.Conn, error) {
			if n.Add(1) > 1 {
				return pgx.Connect(ctx, as("nobody", c.DSN("postgres")))
			}
			return pgx.Connect(ctx, c.DSN("postgres"))
		}})
		err := requireFails(t, c, s, nil)
		require.ErrorContains(t, err, "nobody")
		require.Equal(t, int64(2), n.Load(), "it is not tried again")
	})
	t.Run("connections lead to several servers", func(t *testing.T) {
		other := pgtest.New(t, nil)
		var n atomic.Int64
		s := sqlSource(t, "", &backup.SQLOptions{Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.Connect(ctx, []*pgtest.Cluster{other, c}[n.Add(1)%2].DSN("postgres"))
		}})
		var wrong *backup.OtherServerError
		require.ErrorAs(t, requireFails(t, c, s, source), &wrong)
		requireQuiet(t, other)
	})
	t.Run("is cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := newRepo(t, nil, nil)
		_, err := backup.Take(ctx, r, atOpen{source, 100, cancel}, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, keys(t, r.Store(), "backups/"))
		requireQuiet(t, c)
		_, err = backup.Take(t.Context(), r, source, nil)
		require.NoError(t, err, "no lease is held")
		requireSound(t, r)
	})
	t.Run("sessions that read are terminated", func(t *testing.T) {
		r := newRepo(t, nil, nil)
		var n atomic.Int64
		counted := sqlSource(t, "", &backup.SQLOptions{Connect: func(ctx context.Context) (*pgx.Conn, error) {
			n.Add(1)
			return pgx.Connect(ctx, c.DSN("postgres"))
		}})
		s := atOpen{atOpen{counted, 100, func() { c.Exec(t, terminateReaders) }}, 200, func() { c.Exec(t, terminateReaders) }}
		_, err := backup.Take(t.Context(), r, s, &backup.Options{Jobs: 1})
		require.NoError(t, err)
		require.GreaterOrEqual(t, n.Load(), int64(4))
		requireSound(t, r)
	})
	t.Run("queries are cancelled", func(t *testing.T) {
		r := newRepo(t, nil, nil)
		canceller := c.Connect(t)
		var done sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		cancelled := func() bool {
			tag, err := canceller.Exec(context.WithoutCancel(ctx), `select pg_cancel_backend(pid) from pg_stat_activity
				where application_name = 'pgcairn' and state = 'active' and query like '%pg_read_binary_file($1, r.off%' limit 1`)
			return err == nil && tag.RowsAffected() > 0
		}
		done.Go(func() {
			for n := 0; n < 5 && ctx.Err() == nil; {
				if cancelled() {
					n++
				}
			}
		})
		_, err := backup.Take(t.Context(), r, source, &backup.Options{Jobs: 1})
		stop()
		done.Wait()
		require.NoError(t, err)
		requireSound(t, r)
	})
	t.Run("holds only as many connections as permitted", func(t *testing.T) {
		var n atomic.Int64
		s := sqlSource(t, "", &backup.SQLOptions{Connections: 2, Connect: func(ctx context.Context) (*pgx.Conn, error) {
			n.Add(1)
			return pgx.Connect(ctx, c.DSN("postgres"))
		}})
		_, err := backup.Take(t.Context(), newRepo(t, nil, nil), s, &backup.Options{Jobs: 8})
		require.NoError(t, err)
		require.LessOrEqual(t, n.Load(), int64(3))
	})
	t.Run("gets fewer connections than permitted", func(t *testing.T) {
		s := sqlSource(t, newRole(t, c, `create role limited login connection limit 3`), &backup.SQLOptions{Connections: 8})
		r := newRepo(t, nil, nil)
		m, err := backup.Take(t.Context(), r, s, &backup.Options{Jobs: 8})
		require.NoError(t, err)
		requireSound(t, r)
		for _, d := range m.Catalog.Databases { // of which template0 permits no connections
			require.Equal(t, d.Name != "template0", slices.ContainsFunc(m.Catalog.Relations, func(r backup.Relation) bool { return r.Database == d.OID }), d.Name)
		}
		c.Exec(t, `alter role limited connection limit 1`)
		err = requireFails(t, c, backup.Impatient(s), nil)
		require.ErrorContains(t, err, "too many connections")
	})
	t.Run("is closed", func(t *testing.T) {
		session, err := source.Begin(t.Context(), backup.BeginOptions{})
		require.NoError(t, err)
		require.NoError(t, session.Close())
		_, err = session.Open(t.Context(), "PG_VERSION")
		requireNoAnswer(t, err)
		requireQuiet(t, c)
	})
	t.Run("another cluster's repository", func(t *testing.T) {
		r := newRepo(t, nil, nil)
		a, err := wal.NewArchive(r, nil)
		require.NoError(t, err)
		require.NoError(t, a.Claim(t.Context(), "x", wal.System{ID: 7, SegmentSize: wal.DefaultSegmentSize}))
		_, err = backup.Take(t.Context(), r, source, nil)
		var foreign *wal.ForeignError
		require.ErrorAs(t, err, &foreign)
		requireQuiet(t, c)
	})
}

// A role needs each of the privileges, and the error names those it lacks, and the statement that grants them.
func TestSQLPrivileges(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major})
		c.Exec(t, `create role "a ""role""" login`)
		source := sqlSource(t, as(`'a "role"'`, c.DSN("postgres")), nil)
		denied := func() *backup.PrivilegeError {
			_, err := source.Begin(t.Context(), backup.BeginOptions{})
			var denied *backup.PrivilegeError
			require.ErrorAs(t, err, &denied)
			require.ErrorContains(t, err, denied.Grant())
			require.Equal(t, `a "role"`, denied.Role)
			requireQuiet(t, c)
			return denied
		}
		all := denied()
		require.Len(t, all.Functions, 5)
		c.Exec(t, all.Grant())
		var log bytes.Buffer
		logged := sqlSource(t, as(`'a "role"'`, c.DSN("postgres")), &backup.SQLOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		_, err := backup.Take(t.Context(), newRepo(t, nil, nil), logged, nil)
		require.NoError(t, err)
		require.Contains(t, log.String(), "WAL is not held back")
		for _, f := range all.Functions {
			c.Exec(t, `revoke execute on function `+f+` from "a ""role"""`)
			one := denied()
			require.Equal(t, []string{f}, one.Functions)
			c.Exec(t, one.Grant())
		}
		begin(t, source)
	})
}

// Time limits that a role has for queries of applications do not count.
func TestSQLTimeLimits(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major})
		limits := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
		if major >= 14 {
			limits = append(limits, "idle_session_timeout")
		}
		if major >= 17 {
			limits = append(limits, "transaction_timeout")
		}
		for _, name := range limits {
			c.Exec(t, `alter role postgres set `+name+` = '1h'`)
		}
		var conns []*pgx.Conn
		session := begin(t, sqlSource(t, "", &backup.SQLOptions{Connect: func(ctx context.Context) (*pgx.Conn, error) {
			conn, err := pgx.Connect(ctx, c.DSN("postgres"))
			conns = append(conns, conn)
			return conn, err
		}}))
		content, err := session.Open(t.Context(), "PG_VERSION")
		require.NoError(t, err)
		require.NoError(t, content.Close())
		require.Len(t, conns, 2)
		for _, conn := range conns {
			for _, name := range limits {
				var value string
				require.NoError(t, conn.QueryRow(t.Context(), `show `+name).Scan(&value))
				require.Equal(t, "0", value, name)
			}
		}
	})
}

// Connections that drop at random, far away.
func TestSQLThroughABadNetwork(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	c.Exec(t, `create table t as select i, md5(i::text) from generate_series(1, 50000) i`)
	direct := sqlSource(t, c.DSN("postgres"), nil)

	t.Run("drops connections and is slow", func(t *testing.T) {
		p := newProxy(t, c, 50*time.Millisecond, 1<<20)
		r := newRepo(t, nil, nil)
		s := sqlSource(t, p.dsn(), &backup.SQLOptions{Connections: 16})
		m, err := backup.Take(t.Context(), r, s, &backup.Options{Jobs: 16})
		require.NoError(t, err)
		require.Greater(t, p.connections(), 20)
		require.Zero(t, m.BadPages)
		requireSound(t, r)
		require.Equal(t, pgtest.Checksums(t, c), pgtest.Checksums(t, pgtest.Boot(t, run(t, r, nil), 0, nil)))
	})
	t.Run("drops every connection", func(t *testing.T) {
		p := newProxy(t, c, 0, 0)
		err := requireFails(t, c, atOpen{backup.Impatient(sqlSource(t, p.dsn(), nil)), 100, p.cut}, direct)
		var lost *backup.SessionLostError
		require.ErrorAs(t, err, &lost)
	})
	t.Run("lets no connection for reading through any more", func(t *testing.T) {
		p := newProxy(t, c, 0, 0)
		err := requireFails(t, c, atOpen{backup.Impatient(sqlSource(t, p.dsn(), nil)), 100, p.shut}, direct)
		require.ErrorContains(t, err, "failed 10 times in a row")
		var lost *backup.SessionLostError
		require.NotErrorAs(t, err, &lost)
	})
}
