package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// fillReplicated makes relations of every kind, tablespaces of both, files that are no relations, and a role that may
// replicate and nothing else.
func fillReplicated(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t,
		"CREATE ROLE replicator REPLICATION LOGIN",
		"CREATE TABLESPACE away LOCATION '"+pgtest.Dir(t)+"'",
		"CREATE TABLESPACE empty LOCATION '"+pgtest.Dir(t)+"'",
		"CREATE TABLE plain (id int PRIMARY KEY, note text)",
		"INSERT INTO plain SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 20000) i",
		"CREATE TABLE away TABLESPACE away AS SELECT * FROM plain",
		"CREATE UNLOGGED TABLE unlogged AS SELECT * FROM plain",
		"CREATE UNLOGGED TABLE unlogged_away TABLESPACE away AS SELECT * FROM plain",
		"SELECT pg_create_physical_replication_slot('slot', true)",
		"VACUUM",
	)
	session := c.Connect(t)
	for _, sql := range []string{
		"SET allow_in_place_tablespaces = on", "CREATE TABLESPACE inside LOCATION ''", "CREATE TABLE inside TABLESPACE inside AS SELECT * FROM plain",
		"CREATE TEMP TABLE temporary AS SELECT * FROM plain", "CREATE TEMP TABLE temporary_away TABLESPACE away AS SELECT * FROM plain",
		"CHECKPOINT",
	} {
		_, err := session.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	for _, name := range []string{
		"mine/x", "mine/deep/odd", "pg_stat_tmp/x", "pg_snapshots/x", "base/pgsql_tmp/pgsql_tmp1.0", "current_logfiles",
		"recovery.signal", "standby.signal", "backup_label.old", "tablespace_map.old", "postgresql.auto.conf.tmp", "pgcairn.restore",
		"global/pg_control.pgcairn", "global/pg_internal.init.17",
	} {
		p := filepath.Join(c.Data, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
		require.NoError(t, os.WriteFile(p, []byte("odd"), 0o600))
	}
	pgtest.Own(t, c.Data)
}

// replicator is a connection string of the role that may replicate.
func replicator(c *pgtest.Cluster) string {
	return strings.Replace(c.DSN("postgres"), "user=postgres", "user=replicator", 1)
}

// requireNoSender requires that a server soon sends no backup, and holds no WAL back for one.
func requireNoSender(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	const busy = `select (select count(*) from pg_replication_slots where temporary) +
		(select count(*) from pg_stat_activity where backend_type = 'walsender')`
	require.Eventually(t, func() bool { return pgtest.Value[int64](t, c, busy) == 0 }, time.Minute, 10*time.Millisecond)
}

// beginReplication has a server begin to send a backup of everything.
func beginReplication(ctx context.Context, conn string, r *backup.ReplicationOptions, o backup.BeginOptions) (*backup.ReplicationSession, error) {
	source, err := backup.Replication(conn, r)
	if err != nil {
		return nil, err
	}
	s, err := source.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	sending, err := s.(backup.Streamer).Send(ctx, nil)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if sending.Difference || sending.Reason != "" || sending.Total <= 0 {
		return nil, fmt.Errorf("not all is sent: %v", sending)
	}
	return s.(*backup.ReplicationSession), nil
}

// readAll reads what a backup has, by path; directories have no content.
func readAll(t *testing.T, s *backup.ReplicationSession) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for {
		e, err := s.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		require.False(t, e.Part)
		require.NotContains(t, all, e.Path)
		all[e.Path] = nil
		if !e.Dir {
			content, err := io.ReadAll(s)
			require.NoError(t, err)
			if e.Path != "backup_manifest" { // whose size nobody tells beforehand
				require.Len(t, content, int(e.Size), e.Path)
			}
			all[e.Path] = content
		}
	}
}

// TestReplication compares what a server sends with what is found in its data directory, and with what its other
// functions for backups say.
func TestReplication(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: 1 << 20, NoChecksums: major == 15, Conf: map[string]string{"autovacuum": "off"}})
		fillReplicated(t, c)

		local, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
		require.NoError(t, err)
		other, err := local.Begin(t.Context(), backup.BeginOptions{})
		require.NoError(t, err)
		defer other.Close()
		var want []string
		for e, err := range other.(backup.Lister).Files(t.Context()) {
			require.NoError(t, err)
			want = append(want, e.Path)
		}
		otherStart := other.Start()
		otherStop, err := other.Stop(t.Context())
		require.NoError(t, err)
		require.NoError(t, other.Close())

		var log bytes.Buffer
		before := pgtest.Value[time.Time](t, c, "SELECT clock_timestamp()")
		s, err := beginReplication(t.Context(), replicator(c), &backup.ReplicationOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))},
			backup.BeginOptions{Label: "a label"})
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Stop(t.Context())
		require.ErrorContains(t, err, "have not been read")
		require.True(t, pgtest.Value[bool](t, c, "SELECT count(*) = 1 FROM pg_replication_slots WHERE temporary AND slot_name LIKE 'pgcairn_%'"))
		all := readAll(t, s)
		stop, err := s.Stop(t.Context())
		require.NoError(t, err)
		after := pgtest.Value[time.Time](t, c, "SELECT clock_timestamp()")

		manifest := string(all["backup_manifest"])
		delete(all, "backup_manifest")
		slices.Sort(want)
		require.Equal(t, want, slices.Sorted(maps.Keys(all)))
		for p, content := range all {
			info, err := os.Stat(filepath.Join(c.Data, p))
			require.NoError(t, err)
			require.Equal(t, info.IsDir(), content == nil, p)
			if info.IsDir() {
				continue
			}
			onDisk, err := os.ReadFile(filepath.Join(c.Data, p))
			require.NoError(t, err)
			if !bytes.Equal(onDisk, content) {
				require.Fail(t, "content differs", p)
			}
		}

		start := s.Start()
		label, err := pgfile.ParseLabel(stop.Label)
		require.NoError(t, err)
		require.Equal(t, start.LSN.String(), label.StartLSN)
		require.Contains(t, stop.Label, "LABEL: a label\n")
		require.Greater(t, start.LSN, otherStart.LSN)
		require.Greater(t, stop.LSN, start.LSN)
		require.WithinRange(t, start.Time, before, stop.Time)
		require.WithinRange(t, stop.Time, start.Time, after)
		require.Equal(t, otherStop.TablespaceMap, stop.TablespaceMap)
		_, control, err := pgfile.ReadControl(c.Data)
		require.NoError(t, err)
		require.Equal(t, control, stop.Control)
		require.Contains(t, manifest, "PostgreSQL-Backup-Manifest-Version")
		require.Empty(t, log.String())
		require.Len(t, start.Tablespaces, 2)
		otherStart.LSN, otherStart.Time = start.LSN, start.Time
		require.Equal(t, otherStart, start)

		// The WAL that the backup needs is there, and complete.
		requireSegments(t, c, s, stop)
		require.NoError(t, s.Close())
		requireNoSender(t, c)
	})
}

// requireSegments requires that the segments from start to stop can be had, and that those which the server has not are
// no answer of another kind.
func requireSegments(t *testing.T, c *pgtest.Cluster, s *backup.ReplicationSession, stop backup.Stop) {
	t.Helper()
	size := s.Start().WALSegmentSize
	for seg := wal.SegmentAt(1, s.Start().LSN, size); seg.Number <= wal.SegmentAt(1, stop.LSN-1, size).Number; seg = seg.Next() {
		var got bytes.Buffer
		require.NoError(t, s.CopySegment(t.Context(), seg, &got))
		want, err := os.ReadFile(filepath.Join(c.Data, "pg_wal", seg.Name()))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got.Bytes()), seg)
	}
	err := s.CopySegment(t.Context(), wal.Segment{Timeline: 1, Number: 1, Size: size}, io.Discard)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestReplicationBoots boots a server from what another has sent while it was busy.
func TestReplicationBoots(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"wal_keep_size": "1GB"}})
		c.Exec(t,
			"CREATE ROLE replicator REPLICATION LOGIN",
			"CREATE TABLESPACE away LOCATION '"+pgtest.Dir(t)+"'",
			"CREATE TABLE away TABLESPACE away AS SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 20000) i",
		)
		load := pgtest.StartLoad(t, c, nil)
		s, err := beginReplication(t.Context(), replicator(c), nil, backup.BeginOptions{})
		require.NoError(t, err)
		defer s.Close()
		c.Exec(t, "CREATE TABLE later AS SELECT * FROM away", "DELETE FROM away WHERE i % 3 = 0")
		dir := lay(t, s)
		load.Stop(t)
		want := pgtest.Checksums(t, c)
		c.Stop(t)
		require.NoError(t, os.CopyFS(filepath.Join(dir, "pg_wal"), os.DirFS(filepath.Join(c.Data, "pg_wal"))))
		restored := pgtest.Boot(t, dir, major, nil)
		require.Equal(t, want, pgtest.Checksums(t, restored))
		pgtest.Amcheck(t, restored)
	})
}

// lay makes a data directory of a backup, all but its WAL.
func lay(t *testing.T, s *backup.ReplicationSession) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "pg_tblspc"), 0o700))
	for _, ts := range s.Start().Tablespaces {
		require.NoError(t, os.Symlink(t.TempDir(), filepath.Join(dir, "pg_tblspc", fmt.Sprint(ts.OID))))
	}
	for {
		e, err := s.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		p := filepath.Join(dir, e.Path)
		if e.Dir {
			require.NoError(t, os.MkdirAll(p, 0o700))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		require.NoError(t, err)
		_, err = io.Copy(f, s)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	stop, err := s.Stop(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "backup_label"), []byte(stop.Label), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, pgfile.ControlPath), stop.Control, 0o600))
	require.NoError(t, s.Close())
	return dir
}

// TestReplicationFromStandby takes backups of a standby, one while it is promoted.
func TestReplicationFromStandby(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 18} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, &pgtest.Options{Major: major})
			c.Exec(t, "CREATE ROLE replicator REPLICATION LOGIN", "CREATE TABLE plain AS SELECT * FROM generate_series(1, 100000) i")
			begin := func(c *pgtest.Cluster) *backup.ReplicationSession {
				s, err := beginReplication(t.Context(), replicator(c), nil, backup.BeginOptions{})
				require.NoError(t, err)
				t.Cleanup(func() { s.Close() })
				return s
			}
			boot := func(dir string) *pgtest.Cluster {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600))
				return pgtest.Boot(t, dir, major, &pgtest.BootOptions{Standby: true, Conf: map[string]string{"primary_conninfo": c.DSN("postgres")}})
			}
			standby := boot(lay(t, begin(c)))
			c.Exec(t, "INSERT INTO plain SELECT * FROM generate_series(1, 100000) i")
			s := begin(standby)
			dir := lay(t, s)
			label, err := os.ReadFile(filepath.Join(dir, "backup_label"))
			require.NoError(t, err)
			require.Contains(t, string(label), "BACKUP FROM: standby\n")
			second := boot(dir)
			require.EqualValues(t, 200000, pgtest.Value[int64](t, c, "SELECT count(*) FROM plain"))
			require.Eventually(t, func() bool {
				return pgtest.Value[int64](t, second, "SELECT count(*) FROM plain") == 200000
			}, time.Minute, 10*time.Millisecond)

			s = begin(standby)
			standby.Exec(t, "SELECT pg_promote()")
			for err == nil {
				if _, err = s.Next(t.Context()); err == nil {
					_, err = io.Copy(io.Discard, s)
				}
			}
			require.ErrorContains(t, err, "promoted")
			require.NotErrorIs(t, err, io.EOF)
		})
	}
}

// TestReplicationBreaks ends sessions before their end. The server is left as it was.
func TestReplicationBreaks(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	c.Exec(t, "CREATE ROLE replicator REPLICATION LOGIN", "CREATE ROLE weak LOGIN")
	begin := func(ctx context.Context) *backup.ReplicationSession {
		s, err := beginReplication(ctx, replicator(c), nil, backup.BeginOptions{})
		require.NoError(t, err)
		for range 20 {
			_, err := s.Next(t.Context())
			require.NoError(t, err)
		}
		return s
	}
	rest := func(s *backup.ReplicationSession) (err error) {
		for err == nil {
			_, err = s.Next(t.Context())
		}
		return err
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := begin(ctx)
		cancel()
		err := rest(s)
		require.ErrorIs(t, err, context.Canceled)
		var lost *backup.SessionLostError
		require.NotErrorAs(t, err, &lost)
		require.NotErrorIs(t, err, io.EOF)
		_, err = s.Stop(t.Context())
		require.Error(t, err)
		s.Close()
		requireNoSender(t, c)
	})
	t.Run("terminated", func(t *testing.T) {
		s := begin(t.Context())
		c.Exec(t, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
		_, err := io.Copy(io.Discard, s)
		for err == nil {
			if _, err = s.Next(t.Context()); err == nil {
				_, err = io.Copy(io.Discard, s)
			}
		}
		var lost *backup.SessionLostError
		require.ErrorAs(t, err, &lost)
		require.NotErrorIs(t, err, io.EOF)
		requireNoSender(t, c)
		s.Close()
	})
	t.Run("what reads WAL is terminated", func(t *testing.T) {
		s := begin(t.Context())
		seg := wal.SegmentAt(1, s.Start().LSN, s.Start().WALSegmentSize)
		open, err := s.Open(t.Context(), "pg_wal/"+seg.Name())
		require.NoError(t, err)
		for _, off := range []int64{30, 20, 10} { // another stream each time
			_, err = open.ReadAt(make([]byte, 1), off)
			require.NoError(t, err)
			require.True(t, pgtest.Value[bool](t, c, `select pg_terminate_backend(pid) from pg_stat_replication where state <> 'backup'`))
			require.Eventually(t, func() bool {
				return pgtest.Value[int64](t, c, "select count(*) from pg_stat_replication where state <> 'backup'") == 0
			}, time.Minute, time.Millisecond)
		}
		require.ErrorIs(t, rest(s), io.EOF)
		require.NoError(t, s.Close())
	})
	t.Run("time limits of the role do not count", func(t *testing.T) {
		c.Exec(t, `ALTER ROLE replicator SET idle_session_timeout = '10ms'`, `ALTER ROLE replicator SET statement_timeout = '10ms'`,
			`ALTER ROLE replicator SET default_transaction_read_only = on`)
		s := begin(t.Context())
		require.ErrorIs(t, rest(s), io.EOF)
		require.False(t, s.Start().Standby)
		const idle = `select exists (select from pg_stat_activity where backend_type = 'walsender' and state = 'idle'
			and clock_timestamp() - state_change > '100ms')`
		require.Eventually(t, func() bool { return pgtest.Value[bool](t, c, idle) }, time.Minute, 10*time.Millisecond)
		_, err := s.Stop(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Close())
		c.Exec(t, `ALTER ROLE replicator RESET ALL`)
	})
	t.Run("closed", func(t *testing.T) {
		require.NoError(t, begin(t.Context()).Close())
		requireNoSender(t, c)
	})
	t.Run("role may not", func(t *testing.T) {
		_, err := beginReplication(t.Context(), strings.Replace(c.DSN("postgres"), "user=postgres", "user=weak", 1), nil, backup.BeginOptions{})
		var denied *pgconn.PgError
		require.ErrorAs(t, err, &denied)
		require.Equal(t, "42501", denied.Code)
		requireNoAnswer(t, err)
	})
	t.Run("connection fails", func(t *testing.T) {
		_, err := beginReplication(t.Context(), "host=/nowhere port=none password=secret", nil, backup.BeginOptions{})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
		_, err = beginReplication(t.Context(), "host=/nowhere user=postgres password=secret", nil, backup.BeginOptions{})
		requireNoAnswer(t, err)
		var connect *pgconn.ConnectError
		require.ErrorAs(t, err, &connect)
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("no slot is to be had", func(t *testing.T) {
		var taken []string
		for i := range pgtest.Value[int](t, c, "SELECT current_setting('max_replication_slots')::int") {
			taken = append(taken, fmt.Sprintf("SELECT pg_create_physical_replication_slot('taken_%d')", i))
		}
		c.Exec(t, taken...)
		var log bytes.Buffer
		connect := func(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
			config, err := pgx.ParseConfig(replicator(c))
			require.NoError(t, err)
			maps.Copy(config.RuntimeParams, params)
			return pgx.ConnectConfig(ctx, config)
		}
		s, err := beginReplication(t.Context(), "", &backup.ReplicationOptions{Connect: connect, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			backup.BeginOptions{})
		require.NoError(t, err)
		require.ErrorIs(t, rest(s), io.EOF)
		_, err = s.Stop(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.Contains(t, log.String(), "WAL is not held back")
	})
	t.Run("server goes down", func(t *testing.T) {
		s := begin(t.Context())
		c.StopImmediate(t)
		err := rest(s)
		requireNoAnswer(t, err)
		var lost *backup.SessionLostError
		require.ErrorAs(t, err, &lost)
		require.NotErrorIs(t, err, io.EOF)
		s.Close()
	})
}

// TestReplicationPathsOfTablespaces: a path that an older server cannot send is found before anything is.
func TestReplicationPathsOfTablespaces(t *testing.T) {
	t.Parallel()
	for _, major := range []int{15, 16} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, &pgtest.Options{Major: major})
			location := filepath.Join(pgtest.Dir(t), strings.Repeat("long", 25))
			require.NoError(t, os.Mkdir(location, 0o700))
			pgtest.Own(t, location)
			c.Exec(t, "CREATE ROLE replicator REPLICATION LOGIN", "CREATE TABLESPACE away LOCATION '"+location+"'", "CREATE TABLE away TABLESPACE away AS SELECT 1")
			s, err := beginReplication(t.Context(), replicator(c), nil, backup.BeginOptions{})
			if major < 16 {
				require.ErrorContains(t, err, location)
				requireNoSender(t, c)
				return
			}
			require.NoError(t, err)
			all := readAll(t, s)
			stop, err := s.Stop(t.Context())
			require.NoError(t, err)
			require.Contains(t, stop.TablespaceMap, " "+location+"\n")
			require.Contains(t, all, pgtest.Value[string](t, c, "SELECT pg_relation_filepath('away')"))
			require.NoError(t, s.Close())
		})
	}
}
