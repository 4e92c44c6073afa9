package backup_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// requireQuiet requires that a server soon has no backup, and no slot that holds WAL back.
func requireQuiet(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	const busy = `select (select count(*) from pg_replication_slots) +
		(select count(*) from pg_stat_activity where pid <> pg_backend_pid() and query like '%pg\_backup\_%')`
	require.Eventually(t, func() bool { return pgtest.Value[int64](t, c, busy) == 0 }, 10*time.Second, 10*time.Millisecond)
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	source := func(t *testing.T, pgdata, conn string) backup.Source {
		t.Helper()
		s, err := backup.Directory(pgdata, conn, nil)
		require.NoError(t, err)
		return s
	}
	fails := func(t *testing.T, s backup.Source) error {
		t.Helper()
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, s, nil)
		requireNoAnswer(t, err)
		require.Empty(t, keys(t, r.Store(), "backups/"))
		require.Empty(t, keys(t, r.Store(), "packs/"))
		requireQuiet(t, c)
		return err
	}
	// copyOf makes a directory that has some of the cluster's files.
	copyOf := func(t *testing.T, names ...string) string {
		t.Helper()
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "global"), 0o700))
		for _, name := range names {
			b, err := os.ReadFile(filepath.Join(c.Data, name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		return dir
	}

	t.Run("is not of the server", func(t *testing.T) {
		fake, err := backup.Take(t.Context(), newRepo(t, nil, nil), backuptest.New(nil), nil)
		require.NoError(t, err)
		other := copyOf(t)
		require.NoError(t, os.WriteFile(filepath.Join(other, "global/pg_control"), fake.Control, 0o600))
		moved := copyOf(t, "global/pg_control", "postmaster.pid")
		pid, err := os.ReadFile(filepath.Join(moved, "postmaster.pid"))
		require.NoError(t, err)
		lines := strings.Split(string(pid), "\n")
		lines[3] = strconv.Itoa(c.Port + 1)
		require.NoError(t, os.WriteFile(filepath.Join(moved, "postmaster.pid"), []byte(strings.Join(lines, "\n")), 0o600))
		for reason, dir := range map[string]string{
			"there is no such directory":            filepath.Join(t.TempDir(), "nowhere"),
			"it is not a data directory":            t.TempDir(),
			"its system identifier is 7000000":      other,
			"no server runs in it":                  copyOf(t, "global/pg_control"),
			"is not the one connected to, at port ": moved,
		} {
			err := fails(t, source(t, dir, c.DSN("postgres")))
			var wrong *backup.DirectoryError
			require.ErrorAs(t, err, &wrong, reason)
			require.Equal(t, dir, wrong.Directory)
			require.ErrorContains(t, err, reason)
		}
	})
	t.Run("is damaged", func(t *testing.T) {
		dir := copyOf(t, "global/pg_control")
		f, err := os.OpenFile(filepath.Join(dir, "global/pg_control"), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{1}, 100)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.ErrorContains(t, fails(t, source(t, dir, c.DSN("postgres"))), "pg_control does not match its checksum")
	})
	t.Run("connection fails", func(t *testing.T) {
		_, err := backup.Directory(c.Data, "host=/nowhere port=none password=secret", nil)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
		err = fails(t, source(t, c.Data, "host=/nowhere user=postgres password=secret"))
		var connect *pgconn.ConnectError
		require.ErrorAs(t, err, &connect)
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("role may not", func(t *testing.T) {
		c.Exec(t, `create role weak login`, `create role strong login`,
			`grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to strong`)
		dsn := func(user string) string { return strings.Replace(c.DSN("postgres"), "user=postgres", "user="+user, 1) }
		err := fails(t, source(t, c.Data, dsn("weak")))
		var denied *pgconn.PgError
		require.ErrorAs(t, err, &denied)
		require.Equal(t, "42501", denied.Code)

		var log bytes.Buffer
		s, err := backup.Directory(c.Data, dsn("strong"), &backup.DirectoryOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		_, err = backup.Take(t.Context(), newRepo(t, nil, nil), s, nil)
		require.NoError(t, err)
		require.Contains(t, log.String(), "WAL is not held back")
	})
	t.Run("session is terminated", func(t *testing.T) {
		s := backuptest.Meanwhile{Source: source(t, c.Data, c.DSN("postgres")), Reading: func() {
			c.Exec(t, `select pg_terminate_backend(active_pid) from pg_replication_slots`)
		}}
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, s, nil)
		require.ErrorContains(t, err, "backup: stop the backup on the server")
		var lost *backup.SessionLostError
		require.ErrorAs(t, err, &lost)
		requireNoAnswer(t, err)
		require.Empty(t, keys(t, r.Store(), "backups/"))
		requireQuiet(t, c)
		_, err = backup.Take(t.Context(), r, s.Source, nil)
		require.NoError(t, err)
	})
	t.Run("is cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := backuptest.Meanwhile{Source: source(t, c.Data, c.DSN("postgres")), Reading: func() {
			require.Equal(t, int64(1), pgtest.Value[int64](t, c, `select count(*) from pg_replication_slots`))
			cancel()
		}}
		r := newRepo(t, nil, nil)
		_, err := backup.Take(ctx, r, s, nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, keys(t, r.Store(), "backups/"))
		requireQuiet(t, c)
		_, err = backup.Take(t.Context(), r, s.Source, nil)
		require.NoError(t, err, "no lease is held")
		requireSound(t, r)
	})
	t.Run("server goes down", func(t *testing.T) {
		s := backuptest.Meanwhile{Source: source(t, c.Data, c.DSN("postgres")), Reading: func() { c.StopImmediate(t) }}
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, s, nil)
		requireNoAnswer(t, err)
		require.Empty(t, keys(t, r.Store(), "backups/"))
	})
}

// A server that is too old or too new is named.
func TestServerVersion(t *testing.T) {
	t.Parallel()
	fake, err := backup.Take(t.Context(), newRepo(t, nil, nil), backuptest.New(nil), nil)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "global"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "global/pg_control"), fake.Control, 0o600))
	for _, version := range []int{120022, 190000} {
		s, err := backup.Directory(dir, "", &backup.DirectoryOptions{Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return connectFake(ctx, version)
		}})
		require.NoError(t, err)
		_, err = backup.Take(t.Context(), newRepo(t, nil, nil), s, nil)
		var wrong *backup.VersionError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, version, wrong.Version)
		require.ErrorContains(t, err, "supported are 13 to 18")
	}
}

// connectFake connects to a server that answers every query with a version, a port, and that it is no standby.
func connectFake(ctx context.Context, version int) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("host=fake user=postgres sslmode=disable")
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"fake"}, nil }
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go serveFake(pgproto3.NewBackend(server, server), strconv.Itoa(version))
		return client, nil
	}
	return pgx.ConnectConfig(ctx, config)
}

func serveFake(b *pgproto3.Backend, version string) {
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	b.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	fields := []pgproto3.FieldDescription{
		{Name: []byte("a"), DataTypeOID: 23}, {Name: []byte("b"), DataTypeOID: 23}, {Name: []byte("c"), DataTypeOID: 16},
	}
	for b.Flush() == nil {
		m, err := b.Receive()
		if _, ok := m.(*pgproto3.Query); err != nil || !ok {
			return
		}
		b.Send(&pgproto3.RowDescription{Fields: fields})
		b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(version), []byte("5432"), []byte("f")}})
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}
