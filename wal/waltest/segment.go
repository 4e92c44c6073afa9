// Package waltest makes WAL for tests: segments and history files that no server has written, the same bytes each time.
// [Segment] is enough where only a segment's name matters; the records of a [Log] tell what they change.
//
// It serves unit tests of programs that embed pgcairn, which need no PostgreSQL then.
package waltest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/pgcairn/pgcairn/wal"
)

// Facts of PostgreSQL's xlog_internal.h, xlogrecord.h and pg_control.h.
const (
	pageSize     = 8192
	shortHeader  = 24
	longHeader   = 40
	longFlag     = 0x0002 // XLP_LONG_HEADER
	recordHeader = 24
	recordNoop   = 0x20 // XLOG_NOOP, of resource manager 0
	dataLong     = 254  // XLR_BLOCK_ID_DATA_LONG
)

// magic returns XLOG_PAGE_MAGIC of a major version.
func magic(major int) uint16 {
	switch major {
	case 13:
		return 0xD106
	case 14:
		return 0xD10D
	case 15:
		return 0xD110
	case 16:
		return 0xD113
	case 17:
		return 0xD116
	case 18:
		return 0xD118
	}
	panic(fmt.Sprintf("waltest: PostgreSQL %d is none of 13 to 18", major))
}

// Segment returns the content of a segment, s.Size bytes, as a server of the given major version and system identifier
// would have written it: each page of 8 KiB has its header, and is filled by one record that does nothing (XLOG_NOOP).
// Segments that follow each other are one unbroken run of records, which pg_waldump reads.
//
// It panics when s.Size is no size of a segment, and for a major version that wal does not know.
func Segment(s wal.Segment, systemID uint64, major int) []byte {
	if !wal.ValidSegmentSize(s.Size) {
		panic(fmt.Sprintf("waltest: %d bytes is no size of a segment", s.Size))
	}
	b := make([]byte, s.Size)
	le := binary.LittleEndian
	prev := uint64(0) // position of the record before
	if s.Number > 0 {
		prev = uint64(s.Start()) - pageSize + shortHeader
	}
	for off := 0; off < len(b); off += pageSize {
		page, at := b[off:off+pageSize], uint64(s.Start())+uint64(off)
		le.PutUint16(page, magic(major))
		le.PutUint32(page[4:], uint32(s.Timeline))
		le.PutUint64(page[8:], at)
		header := shortHeader
		if off == 0 {
			header = longHeader
			le.PutUint16(page[2:], longFlag)
			le.PutUint64(page[24:], systemID)
			le.PutUint32(page[32:], s.Size)
			le.PutUint32(page[36:], pageSize)
		}
		noop(page[header:], prev, fmt.Sprintf("page %s of timeline %d, made for a test. ", wal.LSN(at), s.Timeline))
		prev = at + uint64(header)
	}
	return b
}

// noop fills b with a record that does nothing and carries a text, over and over.
func noop(b []byte, prev uint64, text string) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(len(b)))
	le.PutUint64(b[8:], prev)
	b[16] = recordNoop
	data := b[recordHeader:]
	data[0] = dataLong
	le.PutUint32(data[1:], uint32(len(data)-5))
	for n := 5; n < len(data); {
		n += copy(data[n:], text)
	}
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, _ = crc.Write(data)
	_, _ = crc.Write(b[:20])
	le.PutUint32(b[20:], crc.Sum32())
}
