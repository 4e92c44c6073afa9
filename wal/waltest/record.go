package waltest

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// Record is what a [Log] is made of. The functions of this package that return one make those that servers write.
type Record struct {
	Resource wal.Resource
	Info     uint8
	XID      uint32
	Block    *Block // nil: the record is about no block
	Data     []byte // main data
}

// Block is a block that a record changes, with its new content: a page of 8 KiB.
type Block struct {
	wal.File
	Number uint32
	Page   []byte
}

// Facts of xlogrecord.h, pg_control.h, storage_xlog.h and xact.h.
const (
	continuesFlag = 0x0001 // XLP_FIRST_IS_CONTRECORD

	recordSwitch       = 0x40
	recordRestorePoint = 0x70
	recordPage         = 0xB0 // XLOG_FPI
	recordCreate       = 0x10
	recordTruncate     = 0x20
	commitHasInfo      = 0x80
	commitHasRelations = 1 << 2

	blockHasImage = 0x10
	dataShort     = 255
)

// Noop does nothing, and carries a text.
func Noop(text string) Record {
	return Record{Resource: wal.ResourceXLOG, Info: recordNoop, Data: []byte(text)}
}

// FullPage is a page as a whole, of 8 KiB.
func FullPage(f wal.File, block uint32, page []byte) Record {
	return Record{Resource: wal.ResourceXLOG, Info: recordPage, Block: &Block{File: f, Number: block, Page: page}}
}

// Create makes the files of a relation's fork.
func Create(f wal.File) Record {
	le := binary.LittleEndian
	return Record{Resource: wal.ResourceStorage, Info: recordCreate, Data: le.AppendUint32(relation(nil, f.Relation), uint32(f.Fork))}
}

// Truncate cuts off the main fork of a relation.
func Truncate(r wal.Relation, blocks uint32) Record {
	le := binary.LittleEndian
	data := relation(le.AppendUint32(nil, blocks), r)
	return Record{Resource: wal.ResourceStorage, Info: recordTruncate, Data: le.AppendUint32(data, 1)} // SMGR_TRUNCATE_HEAP
}

// Commit is the end of a transaction, which has dropped relations.
func Commit(xid uint32, at time.Time, dropped ...wal.Relation) Record {
	le := binary.LittleEndian
	r := Record{Resource: wal.ResourceTransaction, XID: xid, Data: timestamp(at)}
	if len(dropped) > 0 {
		r.Info = commitHasInfo
		r.Data = le.AppendUint32(r.Data, commitHasRelations)
		r.Data = le.AppendUint32(r.Data, uint32(len(dropped)))
		for _, d := range dropped {
			r.Data = relation(r.Data, d)
		}
	}
	return r
}

// RestorePoint is a point that recovery can be asked for by name, of at most 63 bytes.
func RestorePoint(name string, at time.Time) Record {
	data := append(timestamp(at), make([]byte, 64)...)
	copy(data[8:8+63], name)
	return Record{Resource: wal.ResourceXLOG, Info: recordRestorePoint, Data: data}
}

// timestamp is a TimestampTz: microseconds since 2000.
func timestamp(t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(t.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds()))
}

// relation is a RelFileLocator.
func relation(b []byte, r wal.Relation) []byte {
	le := binary.LittleEndian
	return le.AppendUint32(le.AppendUint32(le.AppendUint32(b, r.Tablespace), r.Database), r.Number)
}

// encode returns the bytes of the record, whose predecessor is at prev.
func (r Record) encode(major int, prev wal.LSN) []byte {
	le := binary.LittleEndian
	var b []byte // after the header
	if p := r.Block; p != nil {
		apply := byte(0x02) // BKPIMAGE_APPLY
		if major < 15 {
			apply = 0x04
		}
		b = append(b, 0, byte(p.Fork)|blockHasImage, 0, 0)
		b = le.AppendUint16(b, uint16(len(p.Page)))
		b = append(b, 0, 0, apply) // without a hole
		b = relation(b, p.Relation)
		b = le.AppendUint32(b, p.Number)
	}
	switch n := len(r.Data); {
	case n > 255:
		b = le.AppendUint32(append(b, dataLong), uint32(n))
	case n > 0:
		b = append(b, dataShort, byte(n))
	}
	if r.Block != nil {
		b = append(b, r.Block.Page...)
	}
	b = slices.Concat(make([]byte, recordHeader), b, r.Data)
	le.PutUint32(b, uint32(len(b)))
	le.PutUint32(b[4:], r.XID)
	le.PutUint64(b[8:], uint64(prev))
	b[16], b[17] = r.Info, byte(r.Resource)
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, _ = crc.Write(b[recordHeader:])
	_, _ = crc.Write(b[:20])
	le.PutUint32(b[20:], crc.Sum32())
	return b
}
