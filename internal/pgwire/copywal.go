package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrRemoved means that the server does not have WAL any more.
var ErrRemoved = errors.New("the server has removed this WAL")

// CopyWAL writes the WAL of a timeline between two positions to w. It waits until the server has come to the end of it.
// After ErrRemoved, and when it returns nil, the connection can be used on.
func CopyWAL(ctx context.Context, c *pgconn.PgConn, timeline uint32, from, to uint64, w io.Writer) error {
	s, err := Start(ctx, c, "", timeline, from)
	if err != nil {
		return err
	}
	err = s.guarded(ctx, func() error {
		for at := from; at < to; {
			m, err := s.Receive()
			if err != nil {
				return s.removed(err)
			}
			switch {
			case m.Kind == Done:
				return fmt.Errorf("timeline %d has ended at %s", timeline, formatLSN(at))
			case m.Kind == Keepalive && m.Reply:
				if err := s.Send(Status{Time: epoch()}); err != nil {
					return err
				}
			case m.Kind == WAL:
				if m.Start != at {
					return fmt.Errorf("the server sends WAL of %s, where that of %s is due", formatLSN(m.Start), formatLSN(at))
				}
				n := min(uint64(len(m.Data)), to-at)
				if _, err := w.Write(m.Data[:n]); err != nil {
					return err
				}
				at += n
			}
		}
		return s.end()
	})
	if err != nil {
		return fmt.Errorf("copy WAL of timeline %d from %s: %w", timeline, formatLSN(from), err)
	}
	return nil
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
