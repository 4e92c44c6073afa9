package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ErrEndOfWAL is what [Records] ends with where no record has been written yet: the rest of the segment is zeros, or
// what an older segment left in a recycled file.
var ErrEndOfWAL = errors.New("wal: the WAL ends here")

// RecordError means that there is no valid record at a position.
type RecordError struct {
	LSN LSN
	Err error
}

func (e *RecordError) Error() string {
	return "wal: record at " + e.LSN.String() + ": " + e.Err.Error()
}
func (e *RecordError) Unwrap() error { return e.Err }

// RecordOptions are the options of [Records]. A nil *RecordOptions, and the zero value of each field, is its default.
type RecordOptions struct {
	// MaxLength is the length in bytes from which on a record is refused; the default is PostgreSQL's own limit, 1,020
	// MiB. Memory is taken only for what has been read.
	MaxLength uint32
}

// Records reads the records of one or more whole segments that follow each other, from a segment's start, written by
// PostgreSQL 13 to 18. Every record's checksum is checked. What r begins with of a record that began earlier is passed
// over, and so is one that it ends in the middle of.
//
// After an error nothing more comes. It is a *[RecordError] where there is no valid record, which wraps [ErrEndOfWAL]
// where none has been written yet; other errors are r's.
//
// It takes the memory of the longest record. The Record is valid until the next one is asked for.
func Records(r io.Reader, o *RecordOptions) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		stopped := false
		s := newScanner(o, func(rec *Record) bool {
			stopped = !yield(rec, nil)
			return !stopped
		})
		b := make([]byte, readSize)
		for {
			n, err := r.Read(b)
			if serr := s.write(b[:n]); serr != nil && !stopped {
				yield(nil, serr)
				return
			}
			switch {
			case stopped || errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(nil, err)
				return
			}
		}
	}
}

// scanner finds the records in WAL that is written to it.
type scanner struct {
	emit      func(*Record) bool // false: no more, please
	maxLength uint32

	first   Header // of the first page
	major   int
	lsn     LSN    // of the next page
	partial []byte // of a page, until it is whole
	err     error  // that it ended with

	record     []byte // what has been read of a record that the next page continues
	begin      LSN    // where that record begins
	tli        Timeline
	missing    int   // bytes of it that are to come; 0 when there is none
	head       int   // bytes that are to come of a record that began before the first page
	front      *edge // keeps that record's bytes, when set
	synced     bool  // a record has begun
	overwrites bool  // the first page is where the rest of a record was to be
	prev       LSN   // of the last record; 0 when unknown
	skip       LSN   // pages before it are what follows a switch

	rec    Record
	blocks []BlockRef
}

var errStopped = errors.New("wal: stopped")

func newScanner(o *RecordOptions, emit func(*Record) bool) *scanner {
	s := &scanner{emit: emit, maxLength: maxRecordSize}
	if o != nil && o.MaxLength > 0 {
		s.maxLength = min(o.MaxLength, maxRecordSize)
	}
	return s
}

// write takes the next bytes of the WAL, and emits the records that end in them.
func (s *scanner) write(b []byte) error {
	if s.err != nil {
		return s.err
	}
	for s.err == nil && len(b) > 0 {
		if s.first.PageSize == 0 {
			// The first page tells how long pages are.
			n := min(headerSize-len(s.partial), len(b))
			s.partial, b = append(s.partial, b[:n]...), b[n:]
			if len(s.partial) < headerSize {
				return nil
			}
			if s.first, s.err = parseHeader(s.partial); s.err == nil {
				s.lsn, s.major = s.first.Start, s.first.Major()
			}
			continue
		}
		size := int(s.first.PageSize)
		if len(s.partial) == 0 && len(b) >= size {
			s.err = s.page(b[:size])
			b = b[size:]
			continue
		}
		n := min(size-len(s.partial), len(b))
		s.partial, b = append(s.partial, b[:n]...), b[n:]
		if len(s.partial) == size {
			s.err = s.page(s.partial)
			s.partial = s.partial[:0]
		}
	}
	return s.err
}

// Flags of a page (xlog_internal.h).
const (
	pageContinues  = 0x0001 // it begins with the rest of a record
	pageOverwrites = 0x0008 // it begins where the rest of a record was to be that was never written

	shortHeaderSize = 24
)

func (s *scanner) fail(at LSN, format string, args ...any) error {
	return &RecordError{LSN: at, Err: fmt.Errorf(format, args...)}
}

// page takes the next page.
func (s *scanner) page(b []byte) error {
	at := s.lsn
	s.lsn += LSN(len(b))
	if at < s.skip {
		return nil
	}
	off, flags, tli, err := s.pageHeader(at, b)
	if err != nil {
		return err
	}
	rest := int(binary.LittleEndian.Uint32(b[16:]))
	if s.missing > 0 && flags&pageOverwrites != 0 {
		s.missing, s.record = 0, s.record[:0] // its end was never written (XLOG_OVERWRITE_CONTRECORD)
	}
	if s.head > 0 && flags&pageOverwrites != 0 {
		s.head = 0 // likewise, where it began before the first page
	}
	if at == s.first.Start {
		s.overwrites = flags&pageOverwrites != 0
	}
	if flags&pageContinues == 0 {
		rest = 0
	}
	switch {
	case s.missing > 0 && rest != s.missing:
		return s.fail(s.begin, "%d bytes are to come, but the page at %s has %d", s.missing, at, rest)
	case s.missing == 0 && s.synced && rest > 0:
		return s.fail(at, "the page continues a record that has ended")
	case s.missing == 0 && s.head > 0 && rest != s.head:
		return s.fail(at, "%d bytes of an earlier record are to come, but the page has %d", s.head, rest)
	}
	n := min(rest, len(b)-off)
	if s.missing > 0 {
		s.record = append(s.record, b[off:off+n]...)
		if s.missing -= n; s.missing > 0 {
			return nil
		}
		off += align(n)
		if err := s.found(s.begin, s.tli, s.record, at+LSN(off)); err != nil {
			return err
		}
		s.record = s.record[:0]
	} else if rest > 0 {
		if s.front != nil {
			s.front.add(b[off : off+n])
		}
		if s.head = rest - n; s.head > 0 {
			return nil
		}
		off += align(n)
		if s.front != nil {
			s.front.end = at + LSN(off)
		}
	}
	return s.records(at, tli, b, off)
}

// records takes the records that begin on a page, from off on.
func (s *scanner) records(page LSN, tli Timeline, b []byte, off int) error {
	for off < len(b) && page >= s.skip {
		at := page + LSN(off)
		length := binary.LittleEndian.Uint32(b[off:])
		switch {
		case length == 0:
			return s.fail(at, "%w", ErrEndOfWAL)
		case length < recordHeaderSize:
			return s.fail(at, "a length of %d bytes", length)
		case length > s.maxLength:
			return s.fail(at, "a length of %d bytes, at most %d are allowed", length, s.maxLength)
		}
		s.synced = true
		if here := len(b) - off; int(length) > here {
			s.record = append(s.record[:0], b[off:]...)
			s.begin, s.tli, s.missing = at, tli, int(length)-here
			return nil
		}
		end := off + align(int(length))
		if err := s.found(at, tli, b[off:off+int(length)], page+LSN(end)); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// endsIn tells whether the WAL, behind a position of which there are zeros, ends there, in a record or between two.
func (s *scanner) endsIn(at LSN) bool {
	return s.lsn >= at && (errors.Is(s.err, ErrEndOfWAL) || s.rec.End >= at)
}

// pageHeader checks the header of the page at a position, and returns its length, flags and timeline.
func (s *scanner) pageHeader(at LSN, b []byte) (n int, flags uint16, tli Timeline, err error) {
	le := binary.LittleEndian
	if le.Uint16(b) == 0 && le.Uint64(b[8:]) == 0 {
		return 0, 0, 0, s.fail(at, "%w", ErrEndOfWAL)
	}
	if magic := le.Uint16(b); magic != s.first.Magic {
		return 0, 0, 0, s.fail(at, "page magic %04X, want %04X", magic, s.first.Magic)
	}
	if got := LSN(le.Uint64(b[8:])); got != at {
		if got < at {
			return 0, 0, 0, s.fail(at, "%w: the page is the one of %s", ErrEndOfWAL, got)
		}
		return 0, 0, 0, s.fail(at, "the page is the one of %s", got)
	}
	flags, tli = le.Uint16(b[2:]), Timeline(le.Uint32(b[4:]))
	first := uint64(at)%uint64(s.first.SegmentSize) == 0
	if first != (flags&xlpLongHeader != 0) {
		return 0, 0, 0, s.fail(at, "page flags %04X", flags)
	}
	if !first {
		return shortHeaderSize, flags, tli, nil
	}
	h, err := parseHeader(b)
	if err != nil {
		return 0, 0, 0, s.fail(at, "%w", err)
	}
	if h.SystemID != s.first.SystemID || h.SegmentSize != s.first.SegmentSize || h.PageSize != s.first.PageSize {
		return 0, 0, 0, s.fail(at, "a segment of another cluster")
	}
	return headerSize, flags, tli, nil
}

// found emits a record.
func (s *scanner) found(at LSN, tli Timeline, b []byte, end LSN) error {
	r := &s.rec
	r.LSN, r.End, r.Timeline, r.major = at, end, tli, s.major
	if err := r.parse(b, s.blocks); err != nil {
		return s.fail(at, "%w", err)
	}
	s.blocks = r.Blocks
	if s.prev != 0 && r.Prev != s.prev {
		return s.fail(at, "it follows a record at %s, but the one before it is at %s", r.Prev, s.prev)
	}
	s.prev = at
	if r.isSwitch() {
		size := LSN(s.first.SegmentSize)
		s.skip = (end + size - 1) / size * size
		r.End = s.skip
	}
	if !s.emit(r) {
		return errStopped
	}
	return nil
}

// align rounds up to the alignment of records (MAXALIGN).
func align(n int) int { return (n + 7) &^ 7 }
