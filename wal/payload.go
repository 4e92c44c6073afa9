package wal

import (
	"encoding/binary"
	"errors"
	"time"
)

// infoMask is the part of a record's Info that belongs to its resource manager (~XLR_INFO_MASK).
const infoMask = 0xF0

func (r *Record) kind() uint8 { return r.Info & infoMask }

// isSwitch tells whether the rest of the segment is unused.
func (r *Record) isSwitch() bool { return r.Resource == ResourceXLOG && r.kind() == xlogSwitch }

// Payload decodes what the record says, for those that tell what a cluster did: it returns a *[Transaction],
// *[Checkpoint], *[CheckpointRedo], *[RestorePoint], *[Switch], *[EndOfRecovery], *[ParameterChange], *[NextOID],
// *[RelationCreate], *[RelationTruncate], *[DatabaseCreate] or *[DatabaseDrop], whose memory is the caller's; nil for
// all other records. A *[RecordError] means that the record is not as PostgreSQL writes it.
func (r *Record) Payload() (any, error) {
	var p any
	var err error
	switch r.Resource {
	case ResourceTransaction:
		p, err = r.transaction()
	case ResourceXLOG:
		p, err = r.xlog()
	case ResourceStorage:
		p, err = r.storage()
	case ResourceDatabase:
		p, err = r.database()
	}
	if err != nil {
		return nil, &RecordError{LSN: r.LSN, Err: err}
	}
	return p, nil
}

// errShort means that a record ends before all that it says is in it.
var errShort = errors.New("shorter than what it says is in it")

// fields reads the fields of a record in order. After the first that is not there, all are zero and err is set.
type fields struct {
	b   []byte
	err error
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.b, f.err = nil, errShort
	}
	if f.err != nil {
		return make([]byte, min(max(n, 0), 64)) // of a field; never of a list
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) uint32() uint32       { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) uint64() uint64       { return binary.LittleEndian.Uint64(f.take(8)) }
func (f *fields) lsn() LSN             { return LSN(f.uint64()) }
func (f *fields) bool() bool           { return f.take(1)[0] != 0 }
func (f *fields) relation() Relation   { return relationAt(f.take(12)) }
func (f *fields) timestamp() time.Time { return fromTimestamp(int64(f.uint64())) }

// count reads how many items of a size follow, and checks that they do.
func (f *fields) count(size int) int { return f.counted(f.uint32(), size) }

func (f *fields) counted(n uint32, size int) int {
	if f.err == nil && uint64(n)*uint64(size) > uint64(len(f.b)) {
		f.b, f.err = nil, errShort
	}
	if f.err != nil {
		return 0
	}
	return int(n)
}

func (f *fields) xids(n int) []uint32 {
	if n == 0 {
		return nil
	}
	xids := make([]uint32, n)
	for i := range xids {
		xids[i] = f.uint32()
	}
	return xids
}

func (f *fields) relations(n int) []Relation {
	if n == 0 {
		return nil
	}
	all := make([]Relation, n)
	for i := range all {
		all[i] = f.relation()
	}
	return all
}

// text reads a string up to its zero byte.
func (f *fields) text() string {
	for i, c := range f.b {
		if c == 0 {
			return string(f.take(i + 1)[:i])
		}
	}
	f.take(len(f.b) + 1)
	return ""
}

// epoch is the zero of PostgreSQL's timestamps, in microseconds since 1970 (POSTGRES_EPOCH_JDATE).
const epoch = 946_684_800_000_000

// fromTimestamp converts a TimestampTz, microseconds since 2000.
func fromTimestamp(us int64) time.Time {
	// Sums that do not fit are no time of a transaction; they wrap, as in PostgreSQL.
	return time.UnixMicro(us + epoch).UTC()
}
