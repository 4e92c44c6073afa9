package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrRemoved means that the server does not have WAL any more.
var ErrRemoved = errors.New("the server has removed this WAL")

// WALReader reads the WAL of a timeline between two positions, as the server streams it. One goroutine at a time may use
// it, and nothing else its connection until it is closed.
type WALReader struct {
	stream *Stream
	at, to uint64
	rest   []byte // of the message received last
	err    error  // that has ended it
}

// ReadWAL begins to read WAL. It has the server wait where it has not come to the end of it.
func ReadWAL(ctx context.Context, c *pgconn.PgConn, timeline uint32, from, to uint64) (*WALReader, error) {
	s, err := Start(ctx, c, "", timeline, from)
	if err != nil {
		return nil, err
	}
	return &WALReader{stream: s, at: from, to: to}, nil
}

// Position is that of the next byte that Read returns.
func (r *WALReader) Position() uint64 { return r.at }

// Read reads on. The end is io.EOF; [ErrRemoved] leaves the connection usable, other errors do not.
func (r *WALReader) Read(ctx context.Context, p []byte) (int, error) {
	for r.err == nil && len(r.rest) == 0 {
		r.err = r.stream.guarded(ctx, r.receive)
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.at += uint64(n)
	return n, nil
}

// receive receives one message.
func (r *WALReader) receive() error {
	if r.at == r.to {
		return io.EOF
	}
	m, err := r.stream.Receive()
	if err != nil {
		return r.stream.removed(err)
	}
	switch {
	case m.Kind == Done:
		return fmt.Errorf("the timeline has ended at %s", formatLSN(r.at))
	case m.Kind == Keepalive && m.Reply:
		return r.stream.Send(Status{Time: epoch()})
	case m.Kind == WAL:
		if m.Start != r.at {
			return fmt.Errorf("the server sends WAL of %s, where that of %s is due", formatLSN(m.Start), formatLSN(r.at))
		}
		r.rest = m.Data[:min(uint64(len(m.Data)), r.to-r.at)]
	}
	return nil
}

// Close ends the stream. When it returns nil the connection can be used on.
func (r *WALReader) Close(ctx context.Context) error {
	if errors.Is(r.err, ErrRemoved) {
		return nil
	}
	if r.err != nil && !errors.Is(r.err, io.EOF) {
		return r.err
	}
	r.err = fs.ErrClosed
	return r.stream.guarded(ctx, r.stream.end)
}

// removed recognizes what a walsender says of a segment that it does not have any more, and makes the connection usable.
func (s *Stream) removed(err error) error {
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == "58P01" && awaitReady(s.front) == nil {
		return fmt.Errorf("%w: %w", ErrRemoved, err)
	}
	return err
}

// end ends a stream before its end, so that the connection can be used on.
func (s *Stream) end() error {
	if err := s.Stop(); err != nil {
		return err
	}
	for {
		m, err := s.Receive()
		if err != nil {
			return err
		}
		if m.Kind == Done {
			_, err := s.result()
			return err
		}
	}
}
