package pgwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// parts are what a server sends by COPY in a backup: the archives of tablespaces and the manifest, one behind the other.
// Read reads the one that next has begun. Before PostgreSQL 15 each comes in a COPY of its own; since then there is one
// COPY, whose messages begin with their kind (basebackup_copy.c).
type parts struct {
	receive     func() (pgproto3.BackendMessage, error)
	plain       bool // as before 15
	manifest    bool // was asked for
	tablespaces []Tablespace

	part int        // that is being read; after those of the tablespaces comes the manifest's
	data []byte     // of the message received last, still to be read
	open bool       // the part has not come to its end
	head *copyEntry // announces the next part
	done bool       // the COPY has ended
}

// begin is told the tablespaces, after which the first part comes.
func (p *parts) begin(tablespaces []Tablespace) error {
	p.tablespaces, p.part = tablespaces, -1
	if p.plain {
		return nil
	}
	return p.expectCopy()
}

// count is how many parts there are to come in all.
func (p *parts) count() int {
	if p.manifest {
		return len(p.tablespaces) + 1
	}
	return len(p.tablespaces)
}

// next goes on to the next part, and tells whether it is the manifest. After the last one it returns io.EOF.
func (p *parts) next() (manifest bool, err error) {
	// Of the manifest there may be a rest.
	if _, err := io.Copy(io.Discard, p); err != nil {
		return false, err
	}
	if p.plain {
		err = p.nextPlain()
	} else {
		err = p.nextTyped()
	}
	if err != nil {
		return false, err
	}
	p.part++
	p.open = true
	return p.part == len(p.tablespaces), nil
}

func (p *parts) nextPlain() error {
	if p.part+1 == p.count() {
		return io.EOF
	}
	p.done = false
	return p.expectCopy()
}

func (p *parts) nextTyped() error {
	for p.head == nil && !p.done {
		if err := p.more(); err != nil {
			return err
		}
	}
	missing := p.part+1 < p.count()
	switch {
	case p.done && missing:
		return fmt.Errorf("the server ended the backup after %d of %d parts", p.part+1, p.count())
	case p.done:
		return io.EOF
	case !missing:
		return fmt.Errorf("the server sends more than %d parts", p.count())
	}
	want := copyEntry{kind: copyManifest}
	if p.part+1 < len(p.tablespaces) {
		want = entryOf(p.tablespaces[p.part+1])
	}
	if got := *p.head; got != want {
		return fmt.Errorf("the server sends %s where %s is due", got, want)
	}
	p.head = nil
	return nil
}

func (p *parts) expectCopy() error {
	message, err := p.receive()
	if err != nil {
		return err
	}
	if _, ok := message.(*pgproto3.CopyOutResponse); !ok {
		return fmt.Errorf("unexpected message %T", message)
	}
	return nil
}

// Read reads the part. Its end is io.EOF, and nothing else is.
func (p *parts) Read(b []byte) (int, error) {
	for len(p.data) == 0 {
		if !p.open {
			return 0, io.EOF
		}
		if err := p.more(); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.data)
	p.data = p.data[n:]
	return n, nil
}

// more receives one message of the COPY.
func (p *parts) more() error {
	message, err := p.receive()
	if err != nil {
		return err
	}
	switch m := message.(type) {
	case *pgproto3.CopyDone:
		p.open, p.done = false, true
		return nil
	case *pgproto3.CopyData:
		if p.plain {
			p.data = m.Data
			return nil
		}
		e, err := parseCopyEntry(m.Data)
		if err != nil {
			return err
		}
		switch e.kind {
		case copyArchive, copyManifest:
			p.open, p.head = false, &e
		case copyContent:
			if !p.open {
				return errors.New("the server sends content of no archive")
			}
			p.data = m.Data[1:]
		}
		return nil
	}
	return fmt.Errorf("unexpected message %T", message)
}

// padding reads what follows the last member of an archive: blocks of zeros, or before PostgreSQL 15 nothing at all.
func (p *parts) padding() error {
	var b [4096]byte
	for {
		n, err := p.Read(b[:])
		if !pgfile.Zero(b[:n]) {
			return errors.New("the server sends content behind the end of an archive")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyKind is what a message of the COPY is, since PostgreSQL 15.
type copyKind byte

const (
	copyArchive  copyKind = 'n'
	copyManifest copyKind = 'm'
	copyContent  copyKind = 'd'
	copyProgress copyKind = 'p'
)

// copyEntry is the head of a message of the COPY.
type copyEntry struct {
	kind     copyKind
	name     string // of an archive
	location string // of its tablespace
}

func (e copyEntry) String() string {
	if e.kind == copyManifest {
		return "the manifest"
	}
	return fmt.Sprintf("archive %q of %q", e.name, e.location)
}

// entryOf is what announces the archive of a tablespace.
func entryOf(t Tablespace) copyEntry {
	name := "base.tar"
	if t.OID != 0 {
		name = fmt.Sprintf("%d.tar", t.OID)
	}
	return copyEntry{kind: copyArchive, name: name, location: t.Location}
}

// parseCopyEntry parses the head of a message of the COPY; what follows in one with content is not looked at.
func parseCopyEntry(b []byte) (copyEntry, error) {
	if len(b) == 0 {
		return copyEntry{}, errors.New("an empty message")
	}
	e := copyEntry{kind: copyKind(b[0])}
	switch e.kind {
	case copyContent:
		return e, nil
	case copyManifest:
		if len(b) == 1 {
			return e, nil
		}
	case copyProgress:
		if len(b) == 1+8 {
			return e, nil
		}
	case copyArchive:
		if bytes.Count(b, []byte{0}) == 2 && b[len(b)-1] == 0 {
			e.name, e.location, _ = strings.Cut(string(b[1:len(b)-1]), "\x00")
			return e, nil
		}
	default:
		return copyEntry{}, fmt.Errorf("a message of unknown kind %q", b[0])
	}
	return copyEntry{}, fmt.Errorf("a message %q of %d bytes", b[0], len(b))
}

// receiver returns a function that receives the next message which is not beside the point. An error of the server it
// returns as an error.
func receiver(front *pgproto3.Frontend, notice func(*pgconn.Notice)) func() (pgproto3.BackendMessage, error) {
	return func() (pgproto3.BackendMessage, error) {
		for {
			message, err := front.Receive()
			if errors.Is(err, io.EOF) {
				return nil, io.ErrUnexpectedEOF // whatever a connection of the caller's says, it is no end
			}
			if err != nil {
				return nil, err
			}
			switch m := message.(type) {
			case *pgproto3.NoticeResponse:
				if notice != nil {
					notice((*pgconn.Notice)(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(m))))
				}
			case *pgproto3.ParameterStatus:
			case *pgproto3.ErrorResponse:
				return nil, pgconn.ErrorResponseToPgError(m)
			default:
				return message, nil
			}
		}
	}
}
