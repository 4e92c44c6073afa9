package backup

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/wal"
)

// replicationOptions are the options of newReplication. The zero value of each field is its default.
type replicationOptions struct {
	// Connect opens a connection with settings of its own for its start, for programs that bring their own credentials.
	// The default connects with the connection string.
	Connect func(ctx context.Context, params map[string]string) (*pgx.Conn, error)

	// MaxRate bounds how much the server sends, in KiB a second, from 32 to 1048576. The default is no bound.
	MaxRate int

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// replication is a cluster that sends its backups itself, by BASE_BACKUP. The role needs REPLICATION and nothing more.
type replication struct {
	connect func(context.Context) (*pgx.Conn, error)
	maxRate int
	log     *slog.Logger
}

// newReplication returns the cluster whose server a connection string, keywords or URL, leads to.
func newReplication(conn string, o *replicationOptions) (*replication, error) {
	if o == nil {
		o = &replicationOptions{}
	}
	r := &replication{maxRate: o.MaxRate, log: o.Logger}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	open, name := o.Connect, "pgcairn"
	if open == nil {
		config, err := pgx.ParseConfig(conn)
		if err != nil {
			return nil, fmt.Errorf("backup: %w", err) // pgx redacts passwords
		}
		name = cmp.Or(config.RuntimeParams["application_name"], name)
		open = func(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
			c := config.Copy()
			maps.Copy(c.RuntimeParams, params)
			return pgx.ConnectConfig(ctx, c)
		}
	}
	r.connect = func(ctx context.Context) (*pgx.Conn, error) {
		return open(ctx, map[string]string{"replication": "true", "application_name": name})
	}
	return r, nil
}

// mapSince is the major version from which on the server lists tablespaces in a file. Before it does so as well, but then
// leaves out what is in tablespaces in place. There it is asked for links, whose paths have a bound.
const (
	mapSince = 16
	maxLink  = 99
)

// begin starts a backup. The backup_manifest of the server is written to manifest, unless that is nil, when it comes, at
// the end. When ctx ends, be it after begin has returned, so do the session and its connection.
func (r *replication) begin(ctx context.Context, o BeginOptions, manifest io.Writer) (_ *replicationSession, err error) {
	conn, err := r.connect(ctx)
	if err != nil {
		return nil, &connectError{err: err}
	}
	s := &replicationSession{conn: conn, manifest: manifest}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.ask(ctx); err != nil {
		return nil, err
	}
	r.holdWAL(ctx, conn.PgConn())
	if s.start.Time, err = pgwire.Clock(ctx, conn.PgConn()); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	mapped := s.start.PGVersion/10000 >= mapSince
	s.backup, err = pgwire.BaseBackup(ctx, conn.PgConn(), &pgwire.BackupOptions{
		Label: o.Label, Fast: !o.Spread, MaxRate: r.maxRate, TablespaceMap: mapped, Manifest: manifest != nil,
		Notice: func(n *pgconn.Notice) { r.notice(ctx, n) },
	})
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	s.start.Timeline, s.start.LSN = wal.Timeline(s.backup.Start.Timeline), wal.LSN(s.backup.Start.LSN)
	for _, t := range s.backup.Tablespaces {
		switch {
		case t.OID == 0:
			continue // the data directory
		case !path.IsAbs(t.Location): // in place: part of the data directory
		case !mapped && len(t.Location) > maxLink:
			return nil, fmt.Errorf("backup: tablespace %d: servers before PostgreSQL %d cannot send that it is at %s: "+
				"paths of at most %d bytes are possible by replication", t.OID, mapSince, t.Location, maxLink)
		default:
			s.start.Tablespaces = append(s.start.Tablespaces, Tablespace{OID: t.OID, Location: t.Location})
		}
		s.ahead = append(s.ahead, Entry{Path: tablespacePath(t.OID), Dir: true})
	}
	if !mapped {
		s.tablespaceMap = mapOf(s.start.Tablespaces)
	}
	slices.SortFunc(s.start.Tablespaces, func(a, b Tablespace) int { return cmp.Compare(a.OID, b.OID) })
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
	}
	return nil
}

// holdWAL does what server.holdWAL does.
func (r *replication) holdWAL(ctx context.Context, c *pgconn.PgConn) {
	if err := pgwire.HoldWAL(ctx, c, "pgcairn_"+strings.ToLower(rand.Text()[:12])); err != nil {
		r.log.InfoContext(ctx, "WAL is not held back during the backup", "reason", err)
	}
}

// notice passes on what the server has to say.
func (r *replication) notice(ctx context.Context, n *pgconn.Notice) {
	level := slog.LevelInfo
	if n.SeverityUnlocalized == "WARNING" {
		level = slog.LevelWarn
	}
	r.log.Log(ctx, level, "the server says: "+n.Message, "detail", n.Detail, "hint", n.Hint)
}

// mapOf is the content of tablespace_map, as do_pg_backup_start makes it.
func mapOf(tablespaces []Tablespace) string {
	var b strings.Builder
	for _, t := range tablespaces {
		fmt.Fprintf(&b, "%d %s\n", t.OID, strings.NewReplacer("\n", "\\\n", "\r", "\\\r", `\`, `\\`).Replace(t.Location))
	}
	return b.String()
}

// Close ends the session, and a backup that is not complete on the server too.
func (s *replicationSession) Close() error {
	if s.backup != nil {
		s.backup.Close()
	}
	return hangUp(s.conn)
}

// errUnread means that a session was to be stopped before all of it was read.
var errUnread = errors.New("backup: the server's files have not been read to their end")
