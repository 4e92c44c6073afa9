package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// Outcome is what became of a transaction.
type Outcome int

// The outcomes. Commit and abort of a transaction that was prepared are told by [Transaction].Prepared.
const (
	Committed Outcome = iota
	Aborted
	Prepared
)

// String returns the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Committed:
		return "commit"
	case Aborted:
		return "abort"
	}
	return "prepare"
}

// Transaction is the end of a transaction, or its preparation for a later one (xact.h).
type Transaction struct {
	Outcome  Outcome
	XID      uint32 // of the transaction; that of a prepared one is not the record's own
	Time     time.Time
	Database uint32     // OID; 0 when the record does not tell
	Subxacts []uint32   // its subtransactions
	Dropped  []Relation // whose files are removed; for Prepared: that a commit will remove
	Prepared bool       // it had been prepared before
	GID      string     // its global identifier, when it is or was prepared and the record tells

	// Where it came from by logical replication; zero when it did not.
	OriginLSN  LSN
	OriginTime time.Time
}

// Kinds of records of a transaction, and what is in one (xact.h).
const (
	xactMask           = 0x70
	xactCommit         = 0x00
	xactPrepare        = 0x10
	xactAbort          = 0x20
	xactCommitPrepared = 0x30
	xactAbortPrepared  = 0x40
	xactHasInfo        = 0x80

	hasDatabase  = 1 << 0
	hasSubxacts  = 1 << 1
	hasRelations = 1 << 2
	hasInvals    = 1 << 3
	hasTwoPhase  = 1 << 4
	hasOrigin    = 1 << 5
	hasGID       = 1 << 7
	hasStats     = 1 << 8 // since 15

	invalSize = 16 // of a SharedInvalidationMessage
)

// statsSize is the size of an xl_xact_stats_item.
func statsSize(major int) int {
	if major < 18 {
		return 12
	}
	return 16
}

func (r *Record) transaction() (any, error) {
	t := &Transaction{XID: r.XID}
	switch r.Info & xactMask {
	case xactCommit:
		t.Outcome = Committed
	case xactAbort:
		t.Outcome = Aborted
	case xactCommitPrepared:
		t.Outcome, t.Prepared = Committed, true
	case xactAbortPrepared:
		t.Outcome, t.Prepared = Aborted, true
	case xactPrepare:
		t.Outcome = Prepared
		return t, r.prepare(t)
	default:
		return nil, nil //nolint:nilnil // of no interest
	}
	return t, r.end(t)
}

// end decodes a commit or an abort (ParseCommitRecord and ParseAbortRecord of xactdesc.c, which differ in that an abort
// has no invalidation messages).
func (r *Record) end(t *Transaction) error {
	f := fields{b: r.Data}
	t.Time = f.timestamp()
	var has uint32
	if r.Info&xactHasInfo != 0 {
		has = f.uint32()
	}
	if has&hasDatabase != 0 {
		t.Database = f.uint32()
		f.uint32() // its default tablespace
	}
	if has&hasSubxacts != 0 {
		t.Subxacts = f.xids(f.count(4))
	}
	if has&hasRelations != 0 {
		t.Dropped = f.relations(f.count(12))
	}
	if has&hasStats != 0 && r.major >= 15 {
		f.take(f.count(statsSize(r.major)) * statsSize(r.major))
	}
	if has&hasInvals != 0 && t.Outcome == Committed {
		f.take(f.count(invalSize) * invalSize)
	}
	if has&hasTwoPhase != 0 {
		t.XID = f.uint32()
		if has&hasGID != 0 {
			t.GID = f.text()
		}
	}
	if has&hasOrigin != 0 {
		t.OriginLSN, t.OriginTime = f.lsn(), f.timestamp()
	}
	return f.err
}

// prepare decodes the state file of a prepared transaction (TwoPhaseFileHeader of twophase.c).
func (r *Record) prepare(t *Transaction) error {
	f := fields{b: r.Data}
	f.uint32() // magic number
	f.uint32() // length of it all
	t.XID = f.uint32()
	t.Database = f.uint32()
	t.Time = f.timestamp()
	f.uint32() // owner
	subxacts, commitRels, abortRels := f.uint32(), f.uint32(), f.uint32()
	if r.major >= 15 {
		f.uint64() // statistics that a commit and an abort drop
	}
	f.uint32() // invalidation messages
	f.take(2)
	gid := int(binary.LittleEndian.Uint16(f.take(2)))
	t.OriginLSN = f.lsn()
	if at := f.uint64(); t.OriginLSN != 0 {
		t.OriginTime = fromTimestamp(int64(at))
	}
	// Each part begins aligned.
	text := f.take(gid)
	f.take(align(gid) - gid)
	if f.err != nil {
		return f.err
	}
	var ok bool
	if text, ok = bytes.CutSuffix(text, []byte{0}); !ok {
		return errors.New("a global identifier without its end")
	}
	t.GID = string(text)
	n := f.counted(subxacts, 4)
	t.Subxacts = f.xids(n)
	f.take(align(4*n) - 4*n)
	t.Dropped = f.relations(f.counted(commitRels, 12))
	f.counted(abortRels, 12)
	return f.err
}
