package pgwire

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// ErrEnded means that the server has ended the stream in order, as it does before it shuts down.
var ErrEnded = errors.New("the server ended the stream")

// Next is where the WAL goes on after the end of a timeline that was streamed.
type Next struct {
	Timeline uint32
	Start    uint64 // the first position of that timeline
}

// Stream is a stream of WAL. One goroutine may receive and another send.
type Stream struct {
	conn  *pgconn.PgConn
	front *pgproto3.Frontend
	next  *Next // when the server had nothing to stream
	mu    sync.Mutex
	buf   []byte
}

// Start starts physical streaming of a timeline from a position. Without a slot, slot is empty. When ctx ends while
// Start waits, the connection is closed.
func Start(ctx context.Context, c *pgconn.PgConn, slot string, timeline uint32, at uint64) (*Stream, error) {
	command := "START_REPLICATION "
	if slot != "" {
		if err := CheckSlotName(slot); err != nil {
			return nil, err
		}
		command += `SLOT "` + slot + `" `
	}
	command += fmt.Sprintf("PHYSICAL %s TIMELINE %d", formatLSN(at), timeline)
	s := &Stream{conn: c, front: c.Frontend()}
	err := s.guarded(ctx, func() error {
		s.front.SendQuery(&pgproto3.Query{String: command})
		if err := s.front.Flush(); err != nil {
			return err
		}
		return s.begin()
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return s, nil
}

// guarded runs f, and closes the connection when ctx ends meanwhile.
func (s *Stream) guarded(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, s.Abort)
	defer stop()
	err := f()
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// begin waits for the stream to begin.
func (s *Stream) begin() error {
	for {
		message, err := s.front.Receive()
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.RowDescription:
			// The timeline has ended at this very position.
			s.next, err = s.result()
			return err
		case *pgproto3.ErrorResponse:
			return s.refused(m)
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return fmt.Errorf("unexpected message %T", m)
		}
	}
}

// refused reads up to where the connection can be used again after an error, unless the server closes it.
func (s *Stream) refused(m *pgproto3.ErrorResponse) error {
	err := pgconn.ErrorResponseToPgError(m)
	for {
		message, rerr := s.front.Receive()
		if rerr != nil {
			return err
		}
		if _, ok := message.(*pgproto3.ReadyForQuery); ok {
			return err
		}
	}
}

// Receive returns the next message. An error ends the stream; [ErrEnded] is that of a server which shuts down.
func (s *Stream) Receive() (Message, error) {
	if s.next != nil {
		return Message{Kind: Done}, nil
	}
	for {
		message, err := s.front.Receive()
		if err != nil {
			return Message{}, err
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			return ParseMessage(m.Data)
		case *pgproto3.CopyDone:
			return Message{Kind: Done}, nil
		case *pgproto3.CommandComplete:
			return Message{}, ErrEnded
		case *pgproto3.ErrorResponse:
			return Message{}, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return Message{}, fmt.Errorf("unexpected message %T", m)
		}
	}
}

// Send reports a status.
func (s *Stream) Send(status Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = status.Encode(s.buf[:0])
	s.front.Send(&pgproto3.CopyData{Data: s.buf})
	return s.front.Flush()
}

// Stop tells the server to stop streaming. What it had sent before is still to be received, up to a message [Done].
func (s *Stream) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.front.Send(&pgproto3.CopyDone{})
	return s.front.Flush()
}

// Next ends the stream after the server's message [Done], and returns where the WAL goes on; nil when the server does
// not tell. The connection can be used for commands again.
func (s *Stream) Next(ctx context.Context) (*Next, error) {
	if s.next != nil {
		return s.next, nil
	}
	err := s.guarded(ctx, func() error {
		if err := s.Stop(); err != nil {
			return err
		}
		var err error
		s.next, err = s.result()
		return err
	})
	return s.next, err
}

// result reads what follows a stream: maybe a row that tells the next timeline, and the end of the command.
func (s *Stream) result() (next *Next, err error) {
	for {
		message, err := s.front.Receive()
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.DataRow:
			if next, err = parseNext(m.Values); err != nil {
				return nil, err
			}
		case *pgproto3.ReadyForQuery:
			return next, nil
		case *pgproto3.ErrorResponse:
			return nil, s.refused(m)
		case *pgproto3.CopyData, *pgproto3.RowDescription, *pgproto3.CommandComplete, *pgproto3.CopyDone,
			*pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return nil, fmt.Errorf("unexpected message %T", m)
		}
	}
}

// parseNext parses the row that follows the end of a timeline: the next timeline, and where it starts.
func parseNext(row [][]byte) (*Next, error) {
	if len(row) < 2 {
		return nil, errors.New("the end of the timeline came with no successor")
	}
	t, err := parseTimeline(row[0])
	if err != nil {
		return nil, fmt.Errorf("the end of the timeline came with %w", err)
	}
	at, err := parseLSN(row[1])
	if err != nil {
		return nil, fmt.Errorf("the end of the timeline came with %w", err)
	}
	return &Next{Timeline: t, Start: at}, nil
}

// Abort closes the connection at once: whoever receives or sends fails. It may be called at any time.
func (s *Stream) Abort() { _ = s.conn.Conn().Close() } // there is nothing left to lose
