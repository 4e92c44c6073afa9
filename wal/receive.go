package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// ReceiveOptions are the options of [Archive.Receive]. A nil *ReceiveOptions, and the zero value of each field, is its
// default.
type ReceiveOptions struct {
	// Slot is the physical replication slot to use, which keeps the server from removing WAL that is not archived yet.
	// Its name has up to 63 lower-case letters, digits and underscores. The default uses none: then what the server has
	// removed by the time that it is asked for is lost to the archive.
	Slot string

	// CreateSlot creates the slot where there is none, on each server that is connected to.
	CreateSlot bool

	// ApplicationName is the name that pg_stat_replication shows, and by which synchronous_standby_names can ask for this
	// receiver. The default is that of the connection string (application_name, PGAPPNAME), or else pgcairn. Note that
	// * in synchronous_standby_names means this receiver too.
	ApplicationName string

	// FlushEvery is how long WAL of a segment that is not complete may wait until it is shipped. The default is 1 s; less
	// than 0 ships as soon as what was shipped before is durable, which is for synchronous replication.
	FlushEvery time.Duration

	// FlushBytes ships earlier when so many bytes wait. The default, 0, does not.
	FlushBytes int64

	// StatusEvery is how often the server is told how far the receiver has come, besides when that changes. The default
	// is 10 s. It has to be less than the server's wal_sender_timeout.
	StatusEvery time.Duration

	// Timeout is how long the server may be silent, though asked for an answer, until the connection is taken for
	// broken. The default is 60 s.
	Timeout time.Duration

	// SpoolDir is where segments of more than 16 MiB are kept until they are complete, in files without a name. The
	// default is the directory for temporary files. Smaller ones are kept in memory.
	SpoolDir string

	// AllowGap goes on where the server's WAL begins when it does not have what follows the archive's any more. The
	// default returns a *[RemovedError] then.
	AllowGap bool

	// Connect opens the connections, for programs that bring their own credentials. params have to be among the startup
	// parameters of each (RuntimeParams of pgconn.Config): they make it one for replication, and name it. The default
	// connects with the connection string.
	Connect func(ctx context.Context, params map[string]string) (*pgx.Conn, error)

	// Progress, when set, is told how far the receiver has come whenever that changes. It is called from Receive's own
	// goroutine, and not after Receive has returned.
	Progress func(ReceiveProgress)
}

// ReceiveProgress tells how far a receiver has come.
type ReceiveProgress struct {
	Timeline Timeline
	Received LSN // up to where WAL has come
	Durable  LSN // up to where the repository holds it, as the server is told
	Segments int // complete ones that were archived since Receive began
}

// RemovedError means that the server does not have WAL any more that follows what is archived.
type RemovedError struct {
	Segment Segment // the first that is missing
	Err     error   // what the server says
}

func (e *RemovedError) Error() string {
	return fmt.Sprintf("wal: segment %s, which follows what is archived, is gone from the server: archive it from elsewhere, or allow a gap: %v",
		e.Segment, e.Err)
}

func (e *RemovedError) Unwrap() error { return e.Err }

// Receive archives the WAL of a running server by streaming replication, until ctx is cancelled. It goes on where the
// archive ends or, with a slot that reaches further back, at the first segment from there on that is not archived; into
// an empty archive, at the slot's position, or with the server's current segment. It follows the server to new
// timelines, whose histories it archives. conn is a connection string, keywords or URL, of a role with the REPLICATION
// attribute; libpq's environment variables fill in what it lacks. The server may be a primary or a standby.
//
// Complete segments are archived as [Archive.Push] does it. What is there of the last one is shipped in pieces, which
// [Archive.Fetch] puts together, so that whoever loses the server's host loses the commits of about
// [ReceiveOptions].FlushEvery. The positions that the server is told, to write and to flush, are those of what is durable
// in the repository, so a slot never is ahead of that, and a commit that waits for this receiver (synchronous_commit on,
// or remote_write) survives the loss of the server. WAL is not applied here: remote_apply would wait for ever.
//
// A receiver may run beside an archive_command, or another receiver of the same cluster. At the end of a timeline that
// the server has left, the last, incomplete segment stays as pieces, where PostgreSQL itself would archive a .partial.
//
// Connections that fail are opened again, after a time that grows to half a minute, and what the store fails at is tried
// again likewise. Receive returns nil when ctx is cancelled and all that had been received is durable. Any other error
// is one that does not pass by itself: *[ForeignError], *[ConflictError], *[RemovedError], a slot that is missing or
// lost, credentials that are refused.
func (a *Archive) Receive(ctx context.Context, conn string, o *ReceiveOptions) error {
	if o == nil {
		o = &ReceiveOptions{}
	}
	r := &receiver{archive: a, options: *o}
	if err := r.prepare(conn); err != nil {
		return err
	}
	defer r.close()
	for failures := 0; ; {
		progress := r.heard
		err := r.session(ctx)
		switch {
		case fatal(err):
			return err
		case ctx.Err() != nil:
			return r.stopped(err)
		case r.heard != progress:
			failures = 0
		}
		failures++
		wait := backoff(failures)
		a.log.WarnContext(ctx, "no WAL is received, will connect again", "wait", wait, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// stopped tells how a receiver has ended that was told to.
func (r *receiver) stopped(err error) error {
	if r.ship == nil || r.ship.idle() {
		return nil
	}
	return fmt.Errorf("wal: stopped before all that was received was stored: %w", err)
}

// prepare checks the options and fills in the defaults.
func (r *receiver) prepare(conn string) error {
	o := &r.options
	if o.Slot != "" {
		if err := pgwire.CheckSlotName(o.Slot); err != nil {
			return fmt.Errorf("wal: %w", err)
		}
	} else if o.CreateSlot {
		return errors.New("wal: a slot to create needs a name")
	}
	for value, fallback := range map[*time.Duration]time.Duration{
		&o.FlushEvery: time.Second, &o.StatusEvery: 10 * time.Second, &o.Timeout: time.Minute,
	} {
		if *value == 0 {
			*value = fallback
		}
	}
	if o.StatusEvery < 0 || o.Timeout < 0 || o.FlushBytes < 0 {
		return errors.New("wal: a negative time or size")
	}
	return r.dialer(conn)
}
