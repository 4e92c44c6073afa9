package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/repo"
)

// defaultApplicationName is what a receiver is called where nobody has named it.
const defaultApplicationName = "pgcairn"

// dialer sets how connections are opened.
func (r *receiver) dialer(conn string) error {
	name := r.options.ApplicationName
	open := r.options.Connect
	if open == nil {
		config, err := pgx.ParseConfig(conn)
		if err != nil {
			return fmt.Errorf("wal: %w", err) // pgx redacts passwords
		}
		if name == "" {
			name = config.RuntimeParams["application_name"]
		}
		open = func(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
			c := config.Copy()
			maps.Copy(c.RuntimeParams, params)
			return pgx.ConnectConfig(ctx, c)
		}
	}
	if name == "" {
		name = defaultApplicationName
	}
	dial := func(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
		defer cancel()
		c, err := open(ctx, params)
		if err != nil {
			return nil, &connectError{err: err}
		}
		return c, nil
	}
	r.replication = func(ctx context.Context) (*pgx.Conn, error) {
		return dial(ctx, map[string]string{"replication": "true", "application_name": name})
	}
	r.ordinary = func(ctx context.Context) (*pgx.Conn, error) {
		return dial(ctx, map[string]string{"application_name": name})
	}
	return nil
}

// connectError hides fs.ErrNotExist, which a missing socket matches: it tells nothing about the archive.
type connectError struct{ err error }

func (e *connectError) Error() string { return "wal: connect to the server: " + e.err.Error() }

func (e *connectError) Is(target error) bool {
	return target != fs.ErrNotExist && errors.Is(e.err, target)
}

func (e *connectError) As(target any) bool { return errors.As(e.err, target) }

// closeTimeout is how long the server is waited for when a connection ends.
const closeTimeout = 5 * time.Second

// hangUp closes a connection, also when the caller's context has ended.
func hangUp(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = c.Close(ctx) // nothing is expected of it any more
	select {
	case <-c.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// fatal tells whether an error will come again, however often the same is tried.
func fatal(err error) bool {
	var (
		foreign  *ForeignError
		conflict *ConflictError
		segment  *SegmentError
		removed  *RemovedError
		corrupt  *repo.CorruptError
		format   *repo.FormatError
		local    *localError
		refused  *pgconn.PgError
	)
	switch {
	case err == nil:
		return false
	case errors.As(err, &foreign), errors.As(err, &conflict), errors.As(err, &segment), errors.As(err, &removed),
		errors.As(err, &corrupt), errors.As(err, &format), errors.As(err, &local):
		return true
	case errors.As(err, &refused):
		switch refused.Code {
		case "42704", "42501", "42601", "42809", "55000": // no such slot, no privilege, no such command, a logical slot, a lost one
			return true
		}
		class := refused.Code[:min(2, len(refused.Code))]
		return class == "28" || class == "3D" // authentication; no such database
	}
	return false
}

// localError is a failure of this host, such as a full disk.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// isRemoved matches what a walsender says of a segment that it does not have any more.
func isRemoved(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "58P01" && strings.Contains(e.Message, "WAL segment")
}

// slot makes sure of the slot, and returns from where on it holds WAL, 0 when that is not known.
func (r *receiver) slot(ctx context.Context, c *pgconn.PgConn) (LSN, error) {
	name := r.options.Slot
	if name == "" {
		return 0, nil
	}
	read := func() (LSN, bool, error) {
		at, exists, err := pgwire.ReadSlot(ctx, c, name)
		if errors.Is(err, errors.ErrUnsupported) {
			return r.slotBySQL(ctx)
		}
		return LSN(at), exists, err
	}
	at, exists, err := read()
	if err != nil || exists || !r.options.CreateSlot {
		return at, err
	}
	created, err := pgwire.CreateSlot(ctx, c, name)
	if err != nil {
		return 0, err
	}
	if created {
		r.archive.log.InfoContext(ctx, "created a replication slot", "slot", name)
	}
	at, _, err = read()
	return at, err
}

// slotBySQL asks for the slot by an ordinary connection, as walsenders before PostgreSQL 15 do not tell. Where the role is
// not let in, it is not known.
func (r *receiver) slotBySQL(ctx context.Context) (at LSN, exists bool, err error) {
	var text *string
	c, err := r.ordinary(ctx)
	if err == nil {
		defer hangUp(ctx, c)
		err = c.QueryRow(ctx, `select restart_lsn::text from pg_replication_slots where slot_name = $1`, r.options.Slot).Scan(&text)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, false, nil
	case ctx.Err() != nil:
		return 0, false, ctx.Err()
	case err != nil:
		r.archive.log.InfoContext(ctx, "the slot's position is not known", "reason", err)
		return 0, false, nil
	case text == nil:
		return 0, true, nil
	}
	at, err = ParseLSN(*text)
	return at, true, err
}
