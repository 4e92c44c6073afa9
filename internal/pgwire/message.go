package pgwire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Kind is what a message of a stream is.
type Kind byte

// The kinds of messages.
const (
	WAL       Kind = 'w' // bytes of the WAL
	Keepalive Kind = 'k' // the server lives, and maybe wants to hear the same
	Done      Kind = 'c' // the server has nothing more to send on this timeline
)

// Message is a message that the server sends while it streams.
type Message struct {
	Kind      Kind
	Start     uint64 // WAL: position of the first byte of Data
	Data      []byte // WAL: valid until the next message is read
	ServerEnd uint64 // WAL and Keepalive: where the server's WAL ends
	Clock     int64  // WAL and Keepalive: when it was sent, in microseconds since 2000 by the server's clock
	Reply     bool   // Keepalive: an answer is wanted at once
}

// End is the position after the message's data.
func (m Message) End() uint64 { return m.Start + uint64(len(m.Data)) }

// Sizes of the messages in bytes, without data.
const (
	walHeader     = 1 + 8 + 8 + 8
	keepaliveSize = 1 + 8 + 8 + 1
)

// ParseMessage parses the content of a CopyData message. The data of what it returns lies in b.
func ParseMessage(b []byte) (Message, error) {
	if len(b) == 0 {
		return Message{}, fmt.Errorf("an empty message")
	}
	be := binary.BigEndian
	switch Kind(b[0]) {
	case WAL:
		if len(b) < walHeader {
			return Message{}, fmt.Errorf("a WAL message of %d bytes", len(b))
		}
		m := Message{Kind: WAL, Start: be.Uint64(b[1:]), ServerEnd: be.Uint64(b[9:]), Clock: int64(be.Uint64(b[17:])), Data: b[walHeader:]}
		if m.End() < m.Start {
			return Message{}, fmt.Errorf("a WAL message at %X, beyond the end of all WAL", m.Start)
		}
		return m, nil
	case Keepalive:
		// Later versions may append fields.
		if len(b) < keepaliveSize {
			return Message{}, fmt.Errorf("a keepalive message of %d bytes", len(b))
		}
		return Message{Kind: Keepalive, ServerEnd: be.Uint64(b[1:]), Clock: int64(be.Uint64(b[9:])), Reply: b[17] != 0}, nil
	}
	return Message{}, fmt.Errorf("a message of unknown kind %q", b[0])
}

// Status is what a receiver reports: positions after the last byte that is written, synced and applied; 0 for none.
type Status struct {
	Write, Flush, Apply uint64
	Time                time.Time // when it is sent
	Reply               bool      // an answer is wanted at once
}

// Encode appends the content of the CopyData message that reports the status.
func (s Status) Encode(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, 'r')
	b = be.AppendUint64(b, s.Write)
	b = be.AppendUint64(b, s.Flush)
	b = be.AppendUint64(b, s.Apply)
	b = be.AppendUint64(b, uint64(s.Time.Sub(epoch()).Microseconds())) //nolint:gosec // its two's complement is meant
	if s.Reply {
		return append(b, 1)
	}
	return append(b, 0)
}

// epoch is the origin of PostgreSQL's timestamps.
func epoch() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }
