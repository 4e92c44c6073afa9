package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/wal"
)

// ErrStandby means that the server is a standby, from which backups cannot be taken yet.
var ErrStandby = errors.New("backup: the server is a standby: connect to the primary")

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

// server is the connection that holds a non-exclusive backup: the server ends the backup when it closes.
type server struct {
	conn    *pgx.Conn
	log     *slog.Logger
	version int // server_version_num
}

// identity prepares the connection and returns the cluster's system identifier and the server's port.
func (s *server) identity(ctx context.Context) (id uint64, port int, err error) {
	const query = `select current_setting('server_version_num')::int, current_setting('port')::int, pg_is_in_recovery()`
	var standby bool
	if err := s.conn.QueryRow(ctx, query).Scan(&s.version, &port, &standby); err != nil {
		return 0, 0, fmt.Errorf("backup: ask the server: %w", err)
	}
	if major := s.version / 10000; major < minMajor || major > maxMajor {
		return 0, 0, &VersionError{Version: s.version}
	}
	if standby {
		return 0, 0, ErrStandby
	}
	var signed int64
	if err := s.conn.QueryRow(ctx, `select system_identifier from pg_control_system()`).Scan(&signed); err != nil {
		return 0, 0, fmt.Errorf("backup: ask the server: %w", err)
	}
	// Time limits meant for queries of applications would end the backup.
	off := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
	if s.version >= 140000 {
		off = append(off, "idle_session_timeout")
	}
	if s.version >= 170000 {
		off = append(off, "transaction_timeout")
	}
	for _, name := range off {
		if _, err := s.conn.Exec(ctx, "set "+name+" = 0"); err != nil {
			return 0, 0, fmt.Errorf("backup: set %s: %w", name, err)
		}
	}
	return uint64(signed), port, nil
}

// begin starts the backup.
func (s *server) begin(ctx context.Context, o BeginOptions) (Start, error) {
	s.holdWAL(ctx)
	start := Start{PGVersion: s.version}
	query := `select pg_backup_start($1, fast => $2)::text, clock_timestamp()`
	if s.version < 150000 {
		query = `select pg_start_backup($1, fast => $2, exclusive => false)::text, clock_timestamp()`
	}
	var lsn string
	if err := s.conn.QueryRow(ctx, query, o.Label, !o.Spread).Scan(&lsn, &start.Time); err != nil {
		return Start{}, fmt.Errorf("backup: start the backup on the server: %w", err)
	}
	var err error
	if start.LSN, err = wal.ParseLSN(lsn); err != nil {
		return Start{}, err
	}
	if err := s.conn.QueryRow(ctx, `select timeline_id from pg_control_checkpoint()`).Scan(&start.Timeline); err != nil {
		return Start{}, fmt.Errorf("backup: ask for the timeline: %w", err)
	}
	// Those in place (allow_in_place_tablespaces, with a relative location) are part of the data directory.
	rows, err := s.conn.Query(ctx, `select oid, spcname, pg_tablespace_location(oid) from pg_tablespace
		where pg_tablespace_location(oid) like '/%' order by oid`)
	if err != nil {
		return Start{}, fmt.Errorf("backup: list tablespaces: %w", err)
	}
	start.Tablespaces, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Tablespace])
	if err != nil {
		return Start{}, fmt.Errorf("backup: list tablespaces: %w", err)
	}
	return start, nil
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

// end stops the backup. It does not wait for archiving: Take sees to the segments itself.
func (s *server) end(ctx context.Context) (Stop, error) {
	query := `select lsn::text, labelfile, spcmapfile, clock_timestamp() from pg_backup_stop(wait_for_archive => false)`
	if s.version < 150000 {
		query = `select lsn::text, labelfile, spcmapfile, clock_timestamp() from pg_stop_backup(exclusive => false, wait_for_archive => false)`
	}
	var stop Stop
	var lsn string
	var spcmap *string
	if err := s.conn.QueryRow(ctx, query).Scan(&lsn, &stop.Label, &spcmap, &stop.Time); err != nil {
		return Stop{}, fmt.Errorf("backup: stop the backup on the server: %w", err)
	}
	if spcmap != nil {
		stop.TablespaceMap = *spcmap
	}
	var err error
	stop.LSN, err = wal.ParseLSN(lsn)
	return stop, err
}

// summaries asks for what the server's WAL summaries say of a timeline between two positions. The one that goes up to
// the second may have to be waited for.
func (s *server) summaries(ctx context.Context, t wal.Timeline, from, to wal.LSN) (*wal.Blocks, error) {
	if s.version < 170000 {
		return nil, fmt.Errorf("PostgreSQL %d has no WAL summaries", s.version/10000)
	}
	var on bool
	if err := s.conn.QueryRow(ctx, `select current_setting('summarize_wal')::bool`).Scan(&on); err != nil {
		return nil, err
	}
	if !on {
		return nil, errors.New("summarize_wal is off")
	}
	for begun := time.Now(); ; { //nolint:forbidigo // how long to wait for the server
		list, covered, err := s.summaryList(ctx, t, from, to)
		if err != nil {
			return nil, err
		}
		if covered >= to {
			return s.readSummaries(ctx, t, list)
		}
		if time.Since(begun) > summaryTime { //nolint:forbidigo // as above
			return nil, fmt.Errorf("the WAL summaries cover %s to %s only, not to %s", from, covered, to)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// summaryTime bounds the wait for a WAL summary. The server's summarizer may sleep for 30 seconds (MAX_SLEEP_QUANTA of
// walsummarizer.c), and again.
const summaryTime = 70 * time.Second

// summary is a WAL summary of the server.
type summary struct{ start, end wal.LSN }

// summaryList returns the summaries from one position on, and up to where, without a gap, they tell of changes.
func (s *server) summaryList(ctx context.Context, t wal.Timeline, from, to wal.LSN) (list []summary, covered wal.LSN, err error) {
	rows, err := s.conn.Query(ctx, `select a.start_lsn::text, a.end_lsn::text from pg_available_wal_summaries() a
		where a.tli = $1 and a.end_lsn > $2::text::pg_lsn and a.start_lsn < $3::text::pg_lsn order by a.start_lsn`,
		int64(t), from.String(), to.String())
	if err != nil {
		return nil, 0, err
	}
	covered = from
	var texts [2]string
	_, err = pgx.ForEachRow(rows, []any{&texts[0], &texts[1]}, func() error {
		start, err1 := wal.ParseLSN(texts[0])
		end, err2 := wal.ParseLSN(texts[1])
		if start <= covered {
			list, covered = append(list, summary{start, end}), max(covered, end)
		}
		return errors.Join(err1, err2)
	})
	return list, covered, err
}

func (s *server) readSummaries(ctx context.Context, t wal.Timeline, list []summary) (*wal.Blocks, error) {
	blocks := &wal.Blocks{}
	for _, sum := range list {
		// A limit comes before the blocks that have changed since.
		rows, err := s.conn.Query(ctx, `select relfilenode, reltablespace, reldatabase, relforknumber, relblocknumber, is_limit_block
			from pg_wal_summary_contents($1, $2::text::pg_lsn, $3::text::pg_lsn) order by is_limit_block desc`,
			int64(t), sum.start.String(), sum.end.String())
		if err != nil {
			return nil, err
		}
		var f wal.File
		var fork int16
		var block int64
		var limit bool
		_, err = pgx.ForEachRow(rows, []any{&f.Number, &f.Tablespace, &f.Database, &fork, &block, &limit}, func() error {
			f.Fork = wal.ForkNumber(fork)
			if limit {
				blocks.Cut(f, uint32(block))
			} else {
				blocks.Mark(f, uint32(block))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

// close ends the session, and with it a backup that has not been stopped, also when the caller's context is cancelled.
func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.conn.Close(ctx)
	// A query that was cancelled is being cancelled on the server too, in the background.
	select {
	case <-s.conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
	return err
}
