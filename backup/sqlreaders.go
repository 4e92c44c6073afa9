package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What fails since a connection has dropped is tried again, after pauses that double, until it has failed so often without
// having brought anything.
const (
	maxFailures  = 10
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	queryTimeout = 2 * time.Minute // who takes longer, connecting included, counts as dropped
)

// OtherServerError means that not all connections lead to the server whose backup it is: the connection string has
// several hosts, or a name that stands for several; or another server has taken its place, or it was restarted.
type OtherServerError struct{}

func (e *OtherServerError) Error() string {
	return "a connection leads to another server than that of the backup, or it was restarted"
}

// outage is a failure to read. It matches neither fs.ErrNotExist, as the error of a missing socket does, nor io.EOF, as
// that of a connection: nobody is to take it for an answer about a file.
type outage struct{ err error }

func (e *outage) Error() string { return e.err.Error() }

func (e *outage) Is(target error) bool {
	return target != fs.ErrNotExist && target != io.EOF && errors.Is(e.err, target)
}

func (e *outage) As(target any) bool { return errors.As(e.err, target) }

// readers are the connections that read files. They are opened when they are needed.
type readers struct {
	connect func(context.Context) (*pgx.Conn, error)
	pause   time.Duration // before the second try
	log     *slog.Logger
	holder  *holder
	slots   chan struct{} // holds something for each that is in use

	mu     sync.Mutex
	closed bool
	opened int // connections, in use or idle
	lost   int // slots, since the server permits no more connections
	idle   []*pgx.Conn
	gone   []*pgx.Conn // that have dropped
}

// query calls f with a connection and, when that drops, again with another: f has to go on where it was, and to tell
// whether it has come any further. What query fails with is an *outage, whatever f fails with.
func (r *readers) query(ctx context.Context, f func(context.Context, *pgx.Conn) (further bool, err error)) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if lost := r.holder.heldLately(ctx); lost != nil {
		return &outage{err: lost}
	}
	pause := r.pause
	for failures := 0; ; {
		how, err := r.try(ctx, f)
		if err == nil {
			return nil
		}
		if cause := ctx.Err(); cause != nil {
			return &outage{err: fmt.Errorf("%w: %w", cause, err)}
		}
		if !how.dropped {
			return &outage{err: err}
		}
		if codeOf(err) == tooManyConnections && r.fewer() {
			// The slot stays taken, so that nobody tries again. There is another, whose user has a connection.
			select {
			case r.slots <- struct{}{}:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		// A server that was restarted has no backup in progress, so there is nothing to wait for.
		if lost := r.holder.held(ctx); lost != nil {
			return &outage{err: lost}
		}
		if other := (*OtherServerError)(nil); errors.As(err, &other) {
			return &outage{err: err}
		}
		if how.stale {
			continue // it may have dropped long ago, and all that are idle with it
		}
		if how.further {
			failures, pause = 0, r.pause
		}
		if failures++; failures == maxFailures {
			return &outage{err: fmt.Errorf("failed %d times in a row, at last: %w", failures, err)}
		}
		r.log.WarnContext(ctx, "a connection that reads has failed, and is opened anew", "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, longestPause)
	}
}

// attempt tells how far a query has come.
type attempt struct {
	further bool // it has come further than the one before
	dropped bool // its error is the connection's, and may not come again
	stale   bool // its connection was one that had been idle, and is no more
}

// try calls f once.
func (r *readers) try(ctx context.Context, f func(context.Context, *pgx.Conn) (bool, error)) (how attempt, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	conn, err := r.take()
	idle := conn != nil
	if !idle && err == nil {
		conn, err = r.open(ctx)
	}
	if err != nil {
		how.dropped = connectionFailed(err)
		return how, err
	}
	how.further, err = f(ctx, conn)
	how.stale = idle && conn.IsClosed()
	how.dropped = conn.IsClosed() || interrupted(err)
	r.put(conn)
	return how, err
}

// connectionFailed tells of what opening a connection has failed with whether the next try may do better.
func connectionFailed(err error) bool {
	return !errors.Is(err, errClosed) && (codeOf(err) == "" || codeOf(err) == tooManyConnections || interrupted(err))
}

// interrupted matches errors of the server that may not come again: somebody has cancelled the query, or ended the
// session; recovery has, on a standby; the server goes down, or comes up.
func interrupted(err error) bool {
	return slices.Contains([]string{recoveryConflict, "57014", "57P01", "57P02", "57P03", "57P05"}, codeOf(err))
}

const tooManyConnections = "53300"

// codeOf is the code of the server's error, if it is one.
func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

var errClosed = errors.New("the session has been closed")

// take returns an idle connection, if there is one.
func (r *readers) take() (*pgx.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	last := len(r.idle) - 1
	if last < 0 {
		return nil, nil
	}
	conn := r.idle[last]
	r.idle = r.idle[:last]
	return conn, nil
}

// open opens a connection for reading to the server that holds the backup.
func (r *readers) open(ctx context.Context) (*pgx.Conn, error) {
	conn, err := r.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	started, err := prepareSession(ctx, conn, r.holder.version)
	if err == nil && started != r.holder.started {
		err = &OtherServerError{}
	}
	if err == nil {
		_, err = conn.PgConn().Prepare(ctx, readStatement, readQuery, nil)
	}
	r.mu.Lock()
	r.opened++
	r.mu.Unlock()
	if err != nil {
		r.discard(conn)
		return nil, err
	}
	return conn, nil
}

// fewer tells whether to go on with one connection less, since there are others.
func (r *readers) fewer() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened == 0 || r.lost == cap(r.slots)-1 {
		return false
	}
	r.lost++
	return true
}

// put takes back a connection.
func (r *readers) put(conn *pgx.Conn) {
	if conn.IsClosed() {
		r.discard(conn)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = append(r.idle, conn)
}

// discard keeps a connection until it has been closed, which is done in the background.
func (r *readers) discard(conn *pgx.Conn) {
	_ = conn.Close(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened--
	r.gone = append(slices.DeleteFunc(r.gone, func(c *pgx.Conn) bool {
		select {
		case <-c.PgConn().CleanupDone():
			return true
		default:
			return false
		}
	}), conn)
}

func (r *readers) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return hangUp(append(r.idle, r.gone...)...)
}
