package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Record is one record of the WAL (xlogrecord.h of PostgreSQL). Its slices are valid until the next one is read.
type Record struct {
	LSN      LSN      // of its first byte
	End      LSN      // where the next one begins, as pg_walinspect has it; after a switch, the end of the segment
	Prev     LSN      // of the record before it
	Timeline Timeline // of the page that it begins on
	XID      uint32   // of the transaction that wrote it; 0 when none did
	Resource Resource // what it is about
	Info     uint8    // kind of record; the resource manager knows what it means
	Length   uint32   // in bytes, without page headers in between (xl_tot_len)
	Blocks   []BlockRef
	Data     []byte // main data, which follows what belongs to the blocks

	major int
}

// BlockRef is a block that a record changes.
type BlockRef struct {
	Relation Relation
	Fork     ForkNumber
	Block    uint32
	Image    bool // the record holds the whole page
	WillInit bool // replay makes the page anew
}

// Relation is the files of a relation: its relfilenode, with the tablespace and database that they lie in.
type Relation struct {
	Tablespace uint32 `json:"tablespace_oid"`
	Database   uint32 `json:"database_oid"` // 0 for what the whole cluster shares
	Number     uint32 `json:"relfilenode"`
}

// String returns the three numbers as pg_waldump has them.
func (r Relation) String() string { return fmt.Sprintf("%d/%d/%d", r.Tablespace, r.Database, r.Number) }

// ForkNumber is one of the files of a relation (ForkNumber of relpath.h).
type ForkNumber uint8

// The forks.
const (
	MainFork ForkNumber = iota
	FSMFork
	VisibilityMapFork
	InitFork
)

// String returns the name that the fork's files have.
func (f ForkNumber) String() string {
	switch f {
	case MainFork:
		return "main"
	case FSMFork:
		return "fsm"
	case VisibilityMapFork:
		return "vm"
	case InitFork:
		return "init"
	}
	return fmt.Sprintf("fork %d", uint8(f))
}

// Sizes and flags of xlogrecord.h.
const (
	recordHeaderSize = 24
	recordCRC        = 20         // offset of xl_crc, up to which the header is in it
	maxRecordSize    = 1020 << 20 // XLogRecordMaxSize
	maxBlockID       = 32

	idTopXID   = 252
	idOrigin   = 253
	idLongData = 254
	idData     = 255

	forkMask     = 0x0F
	hasImage     = 0x10
	hasData      = 0x20
	willInit     = 0x40
	sameRelation = 0x80

	imageHasHole = 0x01
)

// imageCompressed are the flags of a compressed page image, of which there is one more for each method since 15.
func imageCompressed(major int) uint8 {
	if major < 15 {
		return 0x02
	}
	return 0x04 | 0x08 | 0x10
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant

var errRecord = errors.New("malformed")

// parse decodes a whole record, whose checksum it checks. blocks is memory for the Blocks.
func (r *Record) parse(b []byte, blocks []BlockRef) error {
	le := binary.LittleEndian
	crc := crc32.Update(0, castagnoli, b[recordHeaderSize:])
	if crc32.Update(crc, castagnoli, b[:recordCRC]) != le.Uint32(b[recordCRC:]) {
		return errors.New("checksum mismatch")
	}
	r.Length = le.Uint32(b)
	r.XID = le.Uint32(b[4:])
	r.Prev = LSN(le.Uint64(b[8:]))
	r.Info = b[16]
	r.Resource = Resource(b[17])
	r.Blocks = blocks[:0]
	r.Data = nil
	if !r.Resource.valid() {
		return fmt.Errorf("unknown resource manager %d", r.Resource)
	}
	return r.parseBody(b[recordHeaderSize:])
}

// parseBody decodes the headers of blocks and data, which come first, and finds the main data, which comes last.
func (r *Record) parseBody(b []byte) error {
	le := binary.LittleEndian
	var relation Relation
	known := false
	main, rest := 0, 0 // bytes of main data, and of all that follows the headers
	// As long as there are more bytes than the headers seen so far have announced, there is another header.
	for main+rest < len(b) {
		id := b[0]
		b = b[1:]
		switch {
		case id == idData:
			if len(b) < 1 {
				return errRecord
			}
			main, b = int(b[0]), b[1:]
			return r.split(b, main, rest)
		case id == idLongData:
			if len(b) < 4 {
				return errRecord
			}
			n := le.Uint32(b)
			if uint64(n) > uint64(len(b)) {
				return errRecord
			}
			main, b = int(n), b[4:]
			return r.split(b, main, rest)
		case id == idOrigin:
			if len(b) < 2 {
				return errRecord
			}
			b = b[2:]
		case id == idTopXID && r.major >= 14:
			if len(b) < 4 {
				return errRecord
			}
			b = b[4:]
		case id <= maxBlockID:
			ref, n, size, err := parseBlock(b, r.major, relation, known)
			if err != nil {
				return err
			}
			relation, known = ref.Relation, true
			b = b[n:]
			rest += size
			r.Blocks = append(r.Blocks, ref)
		default:
			return fmt.Errorf("unknown block id %d", id)
		}
	}
	return r.split(b, main, rest)
}

// split checks that the lengths add up, and takes the main data.
func (r *Record) split(b []byte, main, rest int) error {
	if main+rest != len(b) {
		return errRecord
	}
	r.Data = b[rest:]
	return nil
}

// parseBlock decodes the header of a block reference after its id (DecodeXLogRecord of xlogreader.c). It returns how
// many bytes that took, and how many bytes of image and data follow the headers.
func parseBlock(b []byte, major int, last Relation, known bool) (ref BlockRef, n, size int, err error) {
	le := binary.LittleEndian
	fail := func() (BlockRef, int, int, error) { return BlockRef{}, 0, 0, errRecord }
	if len(b) < 3 {
		return fail()
	}
	flags := b[0]
	size = int(le.Uint16(b[1:]))
	n = 3
	if (flags&hasData != 0) != (size > 0) {
		return fail()
	}
	ref = BlockRef{Fork: ForkNumber(flags & forkMask), Image: flags&hasImage != 0, WillInit: flags&willInit != 0}
	if ref.Fork > InitFork {
		return fail()
	}
	if ref.Image {
		if len(b) < n+5 {
			return fail()
		}
		size += int(le.Uint16(b[n:]))
		info := b[n+4]
		n += 5
		if info&imageCompressed(major) != 0 && info&imageHasHole != 0 {
			n += 2 // the length of the hole
		}
	}
	if flags&sameRelation != 0 {
		if !known {
			return fail()
		}
		ref.Relation = last
	} else {
		if len(b) < n+12 {
			return fail()
		}
		ref.Relation = relationAt(b[n:])
		n += 12
	}
	if len(b) < n+4 {
		return fail()
	}
	ref.Block = le.Uint32(b[n:])
	return ref, n + 4, size, nil
}

// relationAt decodes a RelFileLocator, 12 bytes.
func relationAt(b []byte) Relation {
	le := binary.LittleEndian
	return Relation{Tablespace: le.Uint32(b), Database: le.Uint32(b[4:]), Number: le.Uint32(b[8:])}
}
