package wal

import (
	"encoding/binary"
	"fmt"
	"io"
)

// headerSize is the size in bytes of the long page header that begins a segment (XLogLongPageHeaderData of
// PostgreSQL's xlog_internal.h).
const headerSize = 40

// xlpLongHeader is XLP_LONG_HEADER.
const xlpLongHeader = 0x0002

// Header is the long page header at the start of a segment.
type Header struct {
	Magic       uint16   // XLOG_PAGE_MAGIC, other in every major version
	Timeline    Timeline // of the first page; older than the segment's own where a timeline began in the middle of it
	Start       LSN      // position of the segment
	SystemID    uint64
	SegmentSize uint32 // in bytes
	PageSize    uint32 // of WAL pages, in bytes
}

// majors maps XLOG_PAGE_MAGIC to the major version that writes it.
var majors = map[uint16]int{ //nolint:gochecknoglobals // a constant
	0xD106: 13, 0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18,
}

// Major is the major version of PostgreSQL that wrote the segment.
func (h Header) Major() int { return majors[h.Magic] }

// ReadHeader reads and checks the header of a segment. Integers are little-endian, as on every platform that pgcairn
// supports.
func ReadHeader(r io.Reader) (Header, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, fmt.Errorf("wal: read page header: %w", err)
	}
	return parseHeader(b[:])
}

func parseHeader(b []byte) (Header, error) {
	le := binary.LittleEndian
	h := Header{
		Magic:       le.Uint16(b),
		Timeline:    Timeline(le.Uint32(b[4:])),
		Start:       LSN(le.Uint64(b[8:])),
		SystemID:    le.Uint64(b[24:]),
		SegmentSize: le.Uint32(b[32:]),
		PageSize:    le.Uint32(b[36:]),
	}
	switch {
	case h.Major() == 0:
		return Header{}, fmt.Errorf("wal: page magic %04X is none of PostgreSQL 13 to 18", h.Magic)
	case le.Uint16(b[2:])&xlpLongHeader == 0:
		return Header{}, fmt.Errorf("wal: the first page has no long header")
	case h.Timeline == 0:
		return Header{}, fmt.Errorf("wal: the first page is of timeline 0")
	case !ValidSegmentSize(h.SegmentSize):
		return Header{}, fmt.Errorf("wal: a segment size of %d bytes", h.SegmentSize)
	case h.PageSize < 1<<10 || h.PageSize > 1<<16 || h.PageSize&(h.PageSize-1) != 0:
		return Header{}, fmt.Errorf("wal: a page size of %d bytes", h.PageSize)
	case uint64(h.Start)%uint64(h.SegmentSize) != 0:
		return Header{}, fmt.Errorf("wal: the first page is at %s, in the middle of a segment", h.Start)
	}
	return h, nil
}

// check tells how the header disagrees with the segment that a file's name says it is.
func (h Header) check(n Name) error {
	s, err := n.Segment(h.SegmentSize)
	if err != nil {
		return err
	}
	// A timeline's first segment begins with pages copied from its parent.
	if h.Timeline > s.Timeline {
		return fmt.Errorf("its first page is of timeline %d", h.Timeline)
	}
	if h.Start != s.Start() {
		return fmt.Errorf("its first page is at %s, want %s", h.Start, s.Start())
	}
	return nil
}
