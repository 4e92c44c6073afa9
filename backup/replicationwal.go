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
	s.wal.mu.Lock()
	defer s.wal.mu.Unlock()
	conn, err := s.wal.idle(ctx)
	if err != nil {
		return nil, err
	}
	if n.Kind == wal.KindHistory {
		b, err := pgwire.TimelineHistory(ctx, conn, uint32(n.Timeline))
		if err != nil {
			return nil, fmt.Errorf("backup: %w", missing(err))
		}
		return historyContent{bytes.NewReader(b)}, nil
	}
	seg, err := n.Segment(s.start.WALSegmentSize)
	if err != nil {
		return nil, err
	}
	now, err := pgwire.Identify(ctx, conn)
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

// Replayed implements [Replayer].
func (s *replicationSession) Replayed(ctx context.Context) (Replay, error) {
	s.wal.mu.Lock()
	defer s.wal.mu.Unlock()
	conn, err := s.wal.idle(ctx)
	if err != nil {
		return Replay{}, err
	}
	now, err := pgwire.Identify(ctx, conn)
	if err != nil {
		return Replay{}, fmt.Errorf("backup: ask how far the standby is: %w", err)
	}
	standby, err := isStandby(ctx, s.wal.conn)
	return Replay{LSN: wal.LSN(now.Position), Timeline: wal.Timeline(now.Timeline), Promoted: !standby}, err
}

// idle returns the connection when nothing is streamed by it.
func (w *sentWAL) idle(ctx context.Context) (*pgconn.PgConn, error) {
	if w.reader != nil {
		if err := w.reader.Close(ctx); err != nil {
			w.lose()
		}
		w.reader = nil
	}
	if w.conn != nil && w.conn.IsClosed() {
		w.lose()
	}
	if w.conn == nil {
		var err error
		if w.conn, err = w.connect(ctx); err != nil {
			return nil, err
		}
	}
	return w.conn.PgConn(), nil
}

// lose gives up a connection that is good for nothing any more.
func (w *sentWAL) lose() {
	_ = hangUp(w.conn)
	w.conn, w.reader = nil, nil
}

// readAt reads WAL of a timeline at a position, all of p. It goes on with a stream that has come to there.
func (w *sentWAL) readAt(ctx context.Context, t wal.Timeline, p []byte, at, end wal.LSN) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reader == nil || w.timeline != t || w.reader.Position() != uint64(at) {
		conn, err := w.idle(ctx)
		if err != nil {
			return err
		}
		w.reader, err = pgwire.ReadWAL(ctx, conn, uint32(t), uint64(at), uint64(end))
		if err != nil {
			return missing(err)
		}
		w.timeline = t
	}
	for len(p) > 0 {
		n, err := w.reader.Read(ctx, p)
		if p = p[n:]; err != nil && len(p) > 0 {
			if !errors.Is(err, pgwire.ErrRemoved) {
				w.lose()
			}
			return missing(err)
		}
	}
	return nil
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
