package backup

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/wal"
)

// ReplicationOptions are the options of [Replication]. A nil *ReplicationOptions, and the zero value of each field, is
// its default.
type ReplicationOptions struct {
	// Connect opens connections, for programs that bring their own credentials. params are settings for the start of the
	// connection, such as replication; without that one it is an ordinary connection, which asks for names only, and need
	// not be possible. The default connects with the connection string.
	Connect func(ctx context.Context, params map[string]string) (*pgx.Conn, error)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// Replication returns the cluster of a server that sends its backups itself, as it does to pg_basebackup (BASE_BACKUP of
// the streaming replication protocol). conn is a connection string, keywords or URL; libpq's environment variables fill
// in what it lacks.
//
// The role needs REPLICATION and nothing more; a backup takes two of the server's max_wal_senders. What the role may
// read besides, by ordinary connections, adds the names of relations to the manifest.
//
// The server reads and sends its files one behind the other, so that this is slower than [Directory] and [SQL] where
// those have several jobs. Since PostgreSQL 17, with summarize_wal on, it reads and sends only what has changed since the
// backup that is built on. In any other case it sends everything, and what has not changed is not stored again. Pages
// that do not match their checksum cannot be read again.
func Replication(conn string, o *ReplicationOptions) (Source, error) {
	if o == nil {
		o = &ReplicationOptions{}
	}
	r := &replication{open: o.Connect, log: o.Logger}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.open == nil {
		config, err := pgx.ParseConfig(conn)
		if err != nil {
			return nil, fmt.Errorf("backup: %w", err) // pgx redacts passwords
		}
		r.connectTo = connectorTo(conn)
		r.open = func(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
			c := config.Copy()
			maps.Copy(c.RuntimeParams, params)
			c.RuntimeParams["application_name"] = cmp.Or(config.RuntimeParams["application_name"], "pgcairn")
			return pgx.ConnectConfig(ctx, c)
		}
	}
	return r, nil
}

type replication struct {
	open func(ctx context.Context, params map[string]string) (*pgx.Conn, error)
	log  *slog.Logger

	connectTo func(ctx context.Context, database string) (*pgx.Conn, error) // nil: only to the one database
}

// connect opens a connection to a walsender, which takes settings at its start only.
func (r *replication) connect(ctx context.Context) (*pgx.Conn, error) {
	params := map[string]string{
		"replication": "true", "application_name": "pgcairn",
		"default_transaction_read_only": "off", // so that what is read-only is a standby, see isStandby
		// As prepareSession has it.
		"tcp_keepalives_idle": "60", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "6",
	}
	conn, err := r.open(ctx, params)
	if err != nil {
		return nil, &connectError{err: err}
	}
	if strings.HasPrefix(conn.PgConn().ParameterStatus("server_version"), "13") {
		return conn, nil
	}
	// It holds back WAL while it is idle. PostgreSQL 13 would refuse a setting that it does not know.
	const limit = "idle_session_timeout"
	value, err := pgwire.Show(ctx, conn.PgConn(), limit)
	if err == nil && value == "0" {
		return conn, nil
	}
	_ = hangUp(conn)
	if err != nil {
		return nil, fmt.Errorf("backup: ask the server: %w", err)
	}
	params[limit] = "0"
	if conn, err = r.open(ctx, params); err != nil {
		return nil, &connectError{err: err}
	}
	return conn, nil
}

// Begin connects. When ctx ends, be it after Begin has returned, so do the session and its connections.
func (r *replication) Begin(ctx context.Context, o BeginOptions) (_ Session, err error) {
	conn, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &replicationSession{source: r, options: o, conn: conn, wal: sentWAL{connect: r.connect}}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// ask asks the server who it is.
func (s *replicationSession) ask(ctx context.Context) error {
	system, err := pgwire.Identify(ctx, s.conn.PgConn())
	if err != nil {
		return fmt.Errorf("backup: ask the server: %w", err)
	}
	s.settings, err = pgwire.ReadSettings(ctx, s.conn.PgConn())
	if err != nil {
		return fmt.Errorf("backup: ask the server: %w", err)
	}
	if major := s.settings.Version / 10000; major < minMajor || major > maxMajor {
		return &VersionError{Version: s.settings.Version}
	}
	s.start = Start{
		SystemID: system.ID, PGVersion: s.settings.Version, PageSize: s.settings.PageSize, RelSegPages: s.settings.RelSegPages,
		WALSegmentSize: s.settings.WALSegmentSize, Checksums: s.settings.Checksums,
		Timeline: wal.Timeline(system.Timeline), LSN: wal.LSN(system.Position),
	}
	s.start.Standby, err = isStandby(ctx, s.conn)
	return err
}

// isStandby tells whether a walsender's server is a standby. Before PostgreSQL 14 it does not say so, but its transactions
// are read-only whatever the setting.
func isStandby(ctx context.Context, conn *pgx.Conn) (bool, error) {
	name := "in_hot_standby"
	if version := conn.PgConn().ParameterStatus("server_version"); strings.HasPrefix(version, "13") {
		name = "transaction_read_only"
	}
	value, err := pgwire.Show(ctx, conn.PgConn(), name)
	if err != nil {
		return false, fmt.Errorf("backup: ask the server: %w", err)
	}
	return value == "on", nil
}

// Close ends the session, and a backup that is not complete on the server too.
func (s *replicationSession) Close() error {
	if s.unwatch != nil {
		s.unwatch()
	}
	if s.backup != nil {
		s.backup.Close()
	}
	conns := []*pgx.Conn{s.conn}
	if s.wal.conn != nil {
		conns = append(conns, s.wal.conn)
	}
	return hangUp(conns...)
}
