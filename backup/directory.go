package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pagecache"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// DirectoryOptions are the options of [Directory]. A nil *DirectoryOptions, and the zero value of each field, is its
// default.
type DirectoryOptions struct {
	// Connect opens the connection that starts and stops the backup, for programs that bring their own credentials. The
	// default connects with the connection string.
	Connect func(context.Context) (*pgx.Conn, error)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// Directory returns the cluster whose data directory is pgdata on this host. conn is a connection string, keywords or
// URL, to its server; libpq's environment variables fill in what it lacks. The role needs to be a superuser, or to have
// EXECUTE on the backup functions; with REPLICATION as well, WAL is held back while the backup runs. The server may be a
// standby.
func Directory(pgdata, conn string, o *DirectoryOptions) (Source, error) {
	if o == nil {
		o = &DirectoryOptions{}
	}
	d := &directory{pgdata: filepath.Clean(pgdata), log: o.Logger}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if d.connect, err = connector(conn, o.Connect); err != nil {
		return nil, err
	}
	if o.Connect == nil {
		d.connectTo = connectorTo(conn)
	}
	return d, nil
}

type directory struct {
	pgdata  string
	connect func(context.Context) (*pgx.Conn, error)
	log     *slog.Logger

	connectTo func(ctx context.Context, database string) (*pgx.Conn, error) // nil: only to the one database
}

// DirectoryError means that a directory is not the data directory of the server that was connected to.
type DirectoryError struct {
	Directory string
	Reason    string
}

func (e *DirectoryError) Error() string { return "backup: " + e.Directory + ": " + e.Reason }

func (d *directory) Begin(ctx context.Context, o BeginOptions) (_ Session, err error) {
	control, err := d.control()
	if err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, &connectError{err: err}
	}
	s := &directorySession{pgdata: d.pgdata, server: &server{conn: conn, log: d.log}, control: control, connectTo: d.connectTo}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := d.check(ctx, s.server, control); err != nil {
		return nil, err
	}
	if s.start, err = s.server.begin(ctx, o); err != nil {
		return nil, err
	}
	s.start.SystemID = control.SystemID
	s.start.PageSize = control.PageSize
	s.start.RelSegPages = control.RelSegPages
	s.start.WALSegmentSize = control.WALSegmentSize
	s.start.Checksums = control.ChecksumVersion != 0
	return s, nil
}

// control reads pg_control, and so finds out whether there is a data directory at all.
func (d *directory) control() (pgfile.Control, error) {
	control, _, err := pgfile.ReadControl(d.pgdata)
	if errors.Is(err, fs.ErrNotExist) {
		reason := "it is not a data directory: it has no " + pgfile.ControlPath
		if _, err := os.Stat(d.pgdata); errors.Is(err, fs.ErrNotExist) {
			reason = "there is no such directory"
		}
		return control, &DirectoryError{Directory: d.pgdata, Reason: reason}
	}
	if err != nil {
		return control, fmt.Errorf("backup: read the data directory: %w", err)
	}
	return control, nil
}

// check proves that the directory is the one that the server at the other end of the connection runs in.
func (d *directory) check(ctx context.Context, s *server, control pgfile.Control) error {
	id, port, err := s.identity(ctx)
	if err != nil {
		return err
	}
	if id != control.SystemID {
		return &DirectoryError{Directory: d.pgdata, Reason: fmt.Sprintf(
			"its system identifier is %d, but the server connected to has %d", control.SystemID, id)}
	}
	// A copy of a cluster has the same system identifier, so look whether this very server runs here.
	pid, err := os.ReadFile(filepath.Join(d.pgdata, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return &DirectoryError{Directory: d.pgdata, Reason: "no server runs in it: it has no postmaster.pid"}
	}
	if err != nil {
		return fmt.Errorf("backup: read the data directory: %w", err)
	}
	if lines := strings.Split(string(pid), "\n"); len(lines) < 4 || strings.TrimSpace(lines[3]) != strconv.Itoa(port) {
		return &DirectoryError{Directory: d.pgdata, Reason: fmt.Sprintf(
			"the server that runs in it is not the one connected to, at port %d", port)}
	}
	return nil
}

// directorySession reads files of a data directory while a server's backup is in progress.
type directorySession struct {
	pgdata  string
	server  *server
	control pgfile.Control
	start   Start

	connectTo func(ctx context.Context, database string) (*pgx.Conn, error) // nil: only to the one database
}

func (s *directorySession) Start() Start { return s.start }

func (s *directorySession) Open(_ context.Context, path string) (Content, error) {
	return pagecache.Open(filepath.Join(s.pgdata, filepath.FromSlash(path)))
}

func (s *directorySession) Stop(ctx context.Context) (Stop, error) {
	// Last of all files, since it tells how far the others may have come.
	control, content, err := pgfile.ReadControl(s.pgdata)
	if err != nil {
		return Stop{}, fmt.Errorf("backup: read pg_control: %w", err)
	}
	if control.SystemID != s.control.SystemID || control.ChecksumVersion != s.control.ChecksumVersion {
		return Stop{}, &DirectoryError{Directory: s.pgdata, Reason: "another cluster has taken its place during the backup"}
	}
	return s.server.end(ctx, control, content)
}

// Replayed implements [Replayer].
func (s *directorySession) Replayed(ctx context.Context) (Replay, error) {
	return s.server.replayed(ctx)
}

// Catalog implements [Cataloger].
func (s *directorySession) Catalog(ctx context.Context) (*Catalog, error) {
	return s.server.catalog(ctx, s.connectTo)
}

// Summaries implements [Summarizer].
func (s *directorySession) Summaries(ctx context.Context, t wal.Timeline, from, to wal.LSN) (*wal.Blocks, error) {
	return s.server.summaries(ctx, t, from, to)
}

func (s *directorySession) Close() error { return s.server.close() }
