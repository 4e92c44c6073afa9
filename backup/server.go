package backup

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// VersionError means that the server's major version is not supported.
type VersionError struct {
	Version int // server_version_num
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("backup: the server is PostgreSQL %d, supported are %d to %d", e.Version/10000, minMajor, maxMajor)
}

const (
	minMajor = 13
	maxMajor = 18
)

// SessionLostError means that the connection which holds a backup on the server has ended, and the backup with it: the
// server was restarted, an administrator terminated the session, or the network failed.
type SessionLostError struct {
	Err error // what the connection ended with
}

func (e *SessionLostError) Error() string {
	return "the session that holds the backup on the server was lost: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *SessionLostError) Unwrap() error { return e.Err }

// server is the connection that holds a non-exclusive backup: the server ends the backup when it closes.
type server struct {
	conn *pgx.Conn
	mu   sync.Mutex // held while conn is used, from when the backup has begun: several may ask then

	log      *slog.Logger
	version  int          // server_version_num
	started  int64        // see prepareSession
	standby  bool         // the server is one
	timeline wal.Timeline // that the backup has begun on
	reached  wal.LSN      // of a standby, then
}

// identity prepares the connection and returns the cluster's system identifier and the server's port.
func (s *server) identity(ctx context.Context) (id uint64, port int, err error) {
	const query = `select current_setting('server_version_num')::int, current_setting('port')::int, pg_is_in_recovery()`
	if err := s.conn.QueryRow(ctx, query).Scan(&s.version, &port, &s.standby); err != nil {
		return 0, 0, fmt.Errorf("backup: ask the server: %w", err)
	}
	if major := s.version / 10000; major < minMajor || major > maxMajor {
		return 0, 0, &VersionError{Version: s.version}
	}
	var signed int64
	if err := s.conn.QueryRow(ctx, `select system_identifier from pg_control_system()`).Scan(&signed); err != nil {
		return 0, 0, fmt.Errorf("backup: ask the server: %w", err)
	}
	if s.started, err = prepareSession(ctx, s.conn, s.version); err != nil {
		return 0, 0, fmt.Errorf("backup: ask the server: %w", err)
	}
	return uint64(signed), port, nil
}

// begin starts the backup. On a standby the server makes a restartpoint, which recovery may cancel again and again.
func (s *server) begin(ctx context.Context, o BeginOptions) (start Start, err error) {
	s.holdWAL(ctx)
	err = s.again(ctx, func() error {
		start, err = s.start(ctx, o)
		return err
	})
	if err != nil {
		return Start{}, err
	}
	s.standby = start.Standby
	err = s.again(ctx, func() error { return s.describe(ctx, &start) })
	s.timeline, s.reached = start.Timeline, start.Reached
	return start, err
}

func (s *server) start(ctx context.Context, o BeginOptions) (Start, error) {
	start := Start{PGVersion: s.version}
	query := `select pg_backup_start($1, fast => $2)::text, clock_timestamp(), pg_is_in_recovery()`
	if s.version < 150000 {
		query = `select pg_start_backup($1, fast => $2, exclusive => false)::text, clock_timestamp(), pg_is_in_recovery()`
	}
	var lsn string
	if err := s.conn.QueryRow(ctx, query, o.Label, !o.Spread).Scan(&lsn, &start.Time, &start.Standby); err != nil {
		return Start{}, fmt.Errorf("backup: start the backup on the server: %w", err)
	}
	var err error
	start.LSN, err = wal.ParseLSN(lsn)
	return start, err
}

// describe adds what else is to be known of a backup that has begun.
func (s *server) describe(ctx context.Context, start *Start) error {
	if err := s.conn.QueryRow(ctx, `select timeline_id from pg_control_checkpoint()`).Scan(&start.Timeline); err != nil {
		return fmt.Errorf("backup: ask for the timeline: %w", err)
	}
	if start.Standby {
		if err := s.checkBegun(ctx, start); err != nil {
			return err
		}
	}
	// Those in place (allow_in_place_tablespaces, with a relative location) are part of the data directory.
	rows, err := s.conn.Query(ctx, `select oid, spcname, pg_tablespace_location(oid) from pg_tablespace
		where pg_tablespace_location(oid) like '/%' order by oid`)
	if err != nil {
		return fmt.Errorf("backup: list tablespaces: %w", err)
	}
	start.Tablespaces, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Tablespace])
	if err != nil {
		return fmt.Errorf("backup: list tablespaces: %w", err)
	}
	return nil
}

// holdWAL keeps the server from recycling segments that the backup needs, where nothing archives them, by a replication
// slot that ends with the connection. Where that is not permitted the backup goes on without, and fails if it turns out
// that a segment is gone.
func (s *server) holdWAL(ctx context.Context) {
	name := "pgcairn_" + strings.ToLower(rand.Text()[:12])
	_, err := s.conn.Exec(ctx, `select pg_create_physical_replication_slot($1, true, true)`, name)
	if err != nil {
		s.log.InfoContext(ctx, "WAL is not held back during the backup", "reason", err)
	}
}

// end stops the backup. control is pg_control, read after all other files. It does not wait for archiving: Take sees to
// the segments itself.
func (s *server) end(ctx context.Context, control pgfile.Control, content []byte) (Stop, error) {
	// A primary may have another clock than its standby. What is in the backup was committed before it ended.
	const columns = `lsn::text, labelfile, spcmapfile,
		greatest(clock_timestamp(), case when pg_is_in_recovery() then pg_last_xact_replay_timestamp() end)`
	query := `select ` + columns + ` from pg_backup_stop(wait_for_archive => false)`
	if s.version < 150000 {
		query = `select ` + columns + ` from pg_stop_backup(exclusive => false, wait_for_archive => false)`
	}
	stop := Stop{Control: content}
	var lsn string
	var spcmap *string
	if err := s.scan(ctx, query, &lsn, &stop.Label, &spcmap, &stop.Time); err != nil {
		return Stop{}, fmt.Errorf("backup: stop the backup on the server: %w", s.promoted(ctx, s.judge(ctx, err)))
	}
	if spcmap != nil {
		stop.TablespaceMap = *spcmap
	}
	var err error
	if stop.LSN, err = wal.ParseLSN(lsn); err == nil && s.standby {
		err = s.checkEnded(ctx, stop, control)
	}
	return stop, err
}

// scan asks for one row.
func (s *server) scan(ctx context.Context, query string, into ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.QueryRow(ctx, query).Scan(into...)
}

// closed tells whether the connection is lost.
func (s *server) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.IsClosed()
}

// judge makes an error of the connection that holds the backup one that says so when the connection is lost.
func (s *server) judge(ctx context.Context, err error) error {
	if s.closed() && ctx.Err() == nil {
		return &SessionLostError{Err: err}
	}
	return err
}

// close ends the session, and with it a backup that has not been stopped.
func (s *server) close() error { return hangUp(s.conn) }
