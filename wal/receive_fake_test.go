package wal_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

// walsender is a server that streams made-up WAL of timeline 1, up to where it is let. Connections to it are pipes, so
// that it works where time is fake.
type walsender struct {
	report func(flush wal.LSN) // is told of every status
	refuse int                 // connections, before one is accepted
	change int                 // flip a bit at this offset of segment 4, unless 0
	mute   bool                // does not answer when asked whether it lives

	mu       sync.Mutex
	end      wal.LSN
	more     chan struct{} // closed when end moves
	attempts []time.Time
	conns    []net.Conn
}

func newWalsender(end wal.LSN) *walsender {
	return &walsender{end: end, more: make(chan struct{}), report: func(wal.LSN) {}}
}

// grow lets it stream up to a position.
func (s *walsender) grow(end wal.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = end
	close(s.more)
	s.more = make(chan struct{})
}

// cut breaks all connections.
func (s *walsender) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *walsender) connect(ctx context.Context, params map[string]string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("host=/fake user=postgres sslmode=disable")
	if err != nil {
		return nil, err
	}
	for k, v := range params {
		config.RuntimeParams[k] = v
	}
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.attempts = append(s.attempts, time.Now())
		if s.refuse > 0 {
			s.refuse--
			return nil, fmt.Errorf("connection refused")
		}
		client, server := net.Pipe()
		s.conns = append(s.conns, client, server)
		go s.serve(server)
		return client, nil
	}
	return pgx.ConnectConfig(ctx, config)
}

func (s *walsender) serve(conn net.Conn) {
	defer conn.Close()
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	send := func(messages ...pgproto3.BackendMessage) {
		for _, m := range messages {
			b.Send(m)
		}
		_ = b.Flush()
	}
	row := func(values ...string) {
		fields := make([]pgproto3.FieldDescription, len(values))
		data := make([][]byte, len(values))
		for i, v := range values {
			fields[i], data[i] = pgproto3.FieldDescription{Name: []byte("c"), DataTypeOID: 25}, []byte(v)
		}
		send(&pgproto3.RowDescription{Fields: fields}, &pgproto3.DataRow{Values: data},
			&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	send(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "18.1"}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	stop := make(chan struct{})
	var sender sync.WaitGroup
	defer sender.Wait()
	defer conn.Close()
	defer func() { close(stop) }()
	for {
		message, err := b.Receive()
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.Query:
			switch words := strings.Fields(m.String); words[0] {
			case "IDENTIFY_SYSTEM":
				s.mu.Lock()
				end := s.end
				s.mu.Unlock()
				row(strconv.FormatUint(systemID, 10), "1", end.String())
			case "SHOW":
				row("1MB")
			case "START_REPLICATION":
				at, err := wal.ParseLSN(words[len(words)-3])
				if err != nil {
					return
				}
				send(&pgproto3.CopyBothResponse{})
				sender.Go(func() { s.stream(conn, at, stop) })
			default:
				return
			}
		case *pgproto3.CopyData:
			if m.Data[0] == 'r' {
				s.report(wal.LSN(binary.BigEndian.Uint64(m.Data[9:])))
				if m.Data[33] == 1 && !s.mute {
					alive, _ := (&pgproto3.CopyData{Data: append([]byte{'k'}, make([]byte, 17)...)}).Encode(nil)
					sender.Go(func() { _, _ = conn.Write(alive) })
				}
			}
		case *pgproto3.CopyDone:
			// The sender shares the pipe; a message is one write.
			done, _ := (&pgproto3.CopyDone{}).Encode(nil)
			if _, err := conn.Write(done); err != nil {
				return
			}
		default:
			return
		}
	}
}

func (s *walsender) stream(conn net.Conn, at wal.LSN, stop <-chan struct{}) {
	var current wal.Segment
	var content []byte
	for {
		s.mu.Lock()
		end, more := s.end, s.more
		s.mu.Unlock()
		for at < end {
			seg := wal.SegmentAt(1, at, wal.MinSegmentSize)
			if seg != current {
				current, content = seg, noisy(seg)
				if seg.Number == 4 && s.change != 0 {
					content[s.change] ^= 1
				}
			}
			from := uint64(at - seg.Start())
			n := min(uint64(end-at), uint64(seg.Size)-from, 128<<10)
			data := []byte{'w'}
			for _, v := range []uint64{uint64(at), uint64(end), 0} {
				data = binary.BigEndian.AppendUint64(data, v)
			}
			data = append(data, content[from:from+n]...)
			b, err := (&pgproto3.CopyData{Data: data}).Encode(nil)
			if err != nil {
				return
			}
			if _, err := conn.Write(b); err != nil {
				return
			}
			at += wal.LSN(n)
		}
		select {
		case <-more:
		case <-stop:
			return
		}
	}
}

// requireStreamed demands that an archive gives back what a walsender has streamed, from a segment up to a position.
func requireStreamed(t *testing.T, a *wal.Archive, first wal.Segment, end wal.LSN) {
	t.Helper()
	for seg := first; seg.Start() < end; seg = seg.Next() {
		want := noisy(seg)
		if end < seg.End() {
			clear(want[end-seg.Start():])
		}
		require.Equal(t, digest(want), digest(read(t, a, seg.Name())), seg)
	}
}
