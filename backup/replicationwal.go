package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/wal"
)

// sentWAL reads a server's WAL by a connection of its own, which streams from wherever something is read.
type sentWAL struct {
	connect func(context.Context) (*pgx.Conn, error)

	mu       sync.Mutex
	conn     *pgx.Conn         // nil before it is needed, and after it has failed
	reader   *pgwire.WALReader // nil when nothing is streamed
	timeline wal.Timeline      // that is streamed
}

// Open opens a segment, or a history, of pg_wal.
func (s *replicationSession) Open(ctx context.Context, path string) (Content, error) {
	name, ok := strings.CutPrefix(path, "pg_wal/")
	if !ok {
		return nil, fmt.Errorf("backup: %s: the server sends it in its turn only", path)
	}
	n, err := wal.ParseName(name)
	if err != nil {
		return nil, err
	}
	if n.Kind == wal.KindHistory {
		return s.history(ctx, n.Timeline)
	}
	seg, err := n.Segment(s.start.WALSegmentSize)
	if err != nil {
		return nil, err
	}
	now, _, err := s.wal.where(ctx)
	if err != nil {
		return nil, fmt.Errorf("backup: ask the server: %w", err)
	}
	end := seg.End()
	if wal.Timeline(now.Timeline) == seg.Timeline {
		end = min(end, wal.LSN(now.Position))
	}
	if end <= seg.Start() {
		return nil, fmt.Errorf("backup: the server's WAL has not come to %s: %w", seg, fs.ErrNotExist)
	}
	return &segmentContent{ctx: ctx, wal: &s.wal, seg: seg, end: end}, nil
}

func (s *replicationSession) history(ctx context.Context, t wal.Timeline) (Content, error) {
	var b []byte
	err := s.wal.ask(ctx, func(conn *pgx.Conn) (err error) {
		b, err = pgwire.TimelineHistory(ctx, conn.PgConn(), uint32(t))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("backup: %w", missing(err))
	}
	return historyContent{bytes.NewReader(b)}, nil
}

// Replayed implements [Replayer].
func (s *replicationSession) Replayed(ctx context.Context) (Replay, error) {
	now, standby, err := s.wal.where(ctx)
	if err != nil {
		return Replay{}, fmt.Errorf("backup: ask how far the standby is: %w", err)
	}
	return Replay{LSN: wal.LSN(now.Position), Timeline: wal.Timeline(now.Timeline), Promoted: !standby}, nil
}

// where asks the server where it is, and whether it is a standby.
func (w *sentWAL) where(ctx context.Context) (now pgwire.System, standby bool, err error) {
	err = w.ask(ctx, func(conn *pgx.Conn) error {
		if now, err = pgwire.Identify(ctx, conn.PgConn()); err != nil {
			return err
		}
		standby, err = isStandby(ctx, conn)
		return err
	})
	return now, standby, err
}

// ask has the server answer a question. A connection that has been idle for hours may be gone, so it is asked again by
// another one.
func (w *sentWAL) ask(ctx context.Context, question func(*pgx.Conn) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for failures := 0; ; failures++ {
		err := w.idle(ctx)
		if err == nil {
			err = question(w.conn)
		}
		if !w.worthRetrying(ctx, err, failures) {
			return err
		}
	}
}

// worthRetrying tells whether to try again by another connection, after an error of this one that is no answer.
func (w *sentWAL) worthRetrying(ctx context.Context, err error, failures int) bool {
	refused := (*pgconn.PgError)(nil)
	if err == nil || ctx.Err() != nil || errors.Is(err, pgwire.ErrRemoved) || errors.As(err, &refused) && !interrupted(err) {
		return false
	}
	w.lose()
	if failures == maxFailures {
		return false
	}
	pause := time.NewTimer(firstPause)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// idle makes a connection by which nothing is streamed.
func (w *sentWAL) idle(ctx context.Context) error {
	if w.reader != nil {
		if err := w.reader.Close(ctx); err != nil {
			w.lose()
		}
		w.reader = nil
	}
	if w.conn != nil && w.conn.IsClosed() {
		w.lose()
	}
	var err error
	if w.conn == nil {
		w.conn, err = w.connect(ctx)
	}
	return err
}

// lose gives up a connection that is good for nothing any more.
func (w *sentWAL) lose() {
	if w.conn != nil {
		_ = hangUp(w.conn)
	}
	w.conn, w.reader = nil, nil
}

// readAt reads WAL of a timeline at a position, all of p, which ends before end. What is read next is likely to follow.
func (w *sentWAL) readAt(ctx context.Context, t wal.Timeline, p []byte, at, end wal.LSN) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for failures := 0; len(p) > 0; {
		n, err := w.readSome(ctx, t, p, at, end)
		if p, at = p[n:], at+wal.LSN(n); err == nil {
			failures = 0
			continue
		}
		// A server ends a stream that nobody has read from for a while (wal_sender_timeout).
		if !w.worthRetrying(ctx, err, failures) {
			return missing(err)
		}
		failures++
	}
	return nil
}

// readSome reads on where a stream has come to, or begins another one.
func (w *sentWAL) readSome(ctx context.Context, t wal.Timeline, p []byte, at, end wal.LSN) (int, error) {
	if w.reader == nil || w.timeline != t || w.reader.Position() != uint64(at) {
		if err := w.idle(ctx); err != nil {
			return 0, err
		}
		r, err := pgwire.ReadWAL(ctx, w.conn.PgConn(), uint32(t), uint64(at), uint64(end))
		if err != nil {
			return 0, err
		}
		w.reader, w.timeline = r, t
	}
	return w.reader.Read(ctx, p)
}

// missing makes an error of a server, that it does not have something any more, one that matches fs.ErrNotExist.
func missing(err error) error {
	var refused *pgconn.PgError
	if errors.Is(err, pgwire.ErrRemoved) || errors.As(err, &refused) && refused.Code == "58P01" { // undefined_file
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// segmentContent is a segment up to where the server's WAL had come when it was opened.
type segmentContent struct {
	ctx context.Context //nolint:containedctx // of the backup: a Content is read without one
	wal *sentWAL
	seg wal.Segment
	end wal.LSN
}

func (c *segmentContent) ReadAt(p []byte, off int64) (int, error) {
	size := int64(c.end - c.seg.Start())
	if off >= size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), size-off))
	// To the end of the segment, since whoever reads on then reads the next one.
	err := c.wal.readAt(c.ctx, c.seg.Timeline, p[:n], c.seg.Start()+wal.LSN(off), c.end)
	if err != nil {
		return 0, fmt.Errorf("backup: segment %s: %w", c.seg, err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *segmentContent) Close() error { return nil }

// historyContent is a history.
type historyContent struct{ *bytes.Reader }

func (historyContent) Close() error { return nil }
