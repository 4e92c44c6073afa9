package wal

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Index is what the records of a segment tell of what the cluster did, gathered while the segment is archived. It does
// not depend on the segments around it: of records that cross into another segment it has what is in this one, and
// [Summarize] puts them together.
type Index struct {
	Segment Segment
	Major   int // of the server that wrote it; 0 when the first page is unreadable

	// End is how far records could be read. It is the end of the segment unless the WAL ends before, or is damaged;
	// Damage tells which. Such a segment is archived all the same.
	End    LSN
	Damage string

	Commits Commits
	Events  []Event // in the order of their LSNs

	ends *ends // nil: the index was made before it was told

	// overwrites: the segment begins where the rest of a record was to be that was never written.
	overwrites bool

	changes changes
	head    edge // the rest of a record that begins before the segment
	tail    edge // what is here of a record that ends behind the segment
	tailAt  LSN
	tailTLI Timeline
}

// Commits sums up transactions that committed.
type Commits struct {
	Count int       `json:"count"`
	First time.Time `json:"first,omitzero"` // the earliest and the latest; a later commit may have an earlier time
	Last  time.Time `json:"last,omitzero"`
}

func (c *Commits) add(at time.Time) {
	if c.Count++; c.Count == 1 || at.Before(c.First) {
		c.First = at
	}
	if c.Count == 1 || at.After(c.Last) {
		c.Last = at
	}
}

// merge adds others.
func (c *Commits) merge(o Commits) {
	if o.Count == 0 {
		return
	}
	if c.Count == 0 || o.First.Before(c.First) {
		c.First = o.First
	}
	if c.Count == 0 || o.Last.After(c.Last) {
		c.Last = o.Last
	}
	c.Count += o.Count
}

// ends sums up transactions that ended, by commit or abort: what a recovery may stop at.
type ends struct {
	Count   int       `json:"count"`
	First   time.Time `json:"first,omitzero"` // the earliest and the latest, as of commits
	Last    time.Time `json:"last,omitzero"`
	LowXID  uint32    `json:"low_xid,omitempty"` // the oldest and the newest, as transaction IDs wrap around
	HighXID uint32    `json:"high_xid,omitempty"`
}

func (e *ends) add(xid uint32, at time.Time) {
	e.Count++
	if e.Count == 1 {
		e.First, e.Last, e.LowXID, e.HighXID = at, at, xid, xid
		return
	}
	if at.Before(e.First) {
		e.First = at
	}
	if at.After(e.Last) {
		e.Last = at
	}
	if int32(xid-e.LowXID) < 0 {
		e.LowXID = xid
	}
	if int32(xid-e.HighXID) > 0 {
		e.HighXID = xid
	}
}

// has tells whether a transaction may be among them.
func (e *ends) has(xid uint32) bool {
	return e.Count > 0 && int32(xid-e.LowXID) >= 0 && int32(e.HighXID-xid) >= 0
}

// EventKind is what an [Event] is.
type EventKind string

// The kinds of events.
const (
	EventCommit         EventKind = "commit"        // of any transaction; not in an [Index], which only sums them up
	EventAbort          EventKind = "abort"         // of any transaction; told by [Archive.Replay] and [Archive.Matches] alone
	EventDrop           EventKind = "drop"          // a commit after which relations are gone: dropped, or rewritten as by TRUNCATE
	EventTruncate       EventKind = "truncate"      // a relation's file was cut off, by VACUUM or in the transaction that made it
	EventRestorePoint   EventKind = "restore-point" // pg_create_restore_point
	EventCheckpoint     EventKind = "checkpoint"
	EventDatabaseCreate EventKind = "database-create"
	EventDatabaseDrop   EventKind = "database-drop"
	EventWALLevel       EventKind = "wal-level" // wal_level became what Name says
	EventTimeline       EventKind = "timeline"  // a timeline begins
)

// Event is something that a cluster did, other than change rows.
type Event struct {
	Kind      EventKind  `json:"kind"`
	Timeline  Timeline   `json:"timeline"`      // of the page that the record begins on
	LSN       LSN        `json:"lsn"`           // of the record
	End       LSN        `json:"end_lsn"`       // behind the record: the target to recover to it, inclusively
	Prev      LSN        `json:"prev_lsn"`      // of the record before it: the target to recover to just before it
	Time      time.Time  `json:"time,omitzero"` // zero when the record has none
	XID       uint32     `json:"xid,omitempty"` // 0 when it belongs to no transaction
	Relations []Relation `json:"relations,omitempty"`
	Name      string     `json:"name,omitempty"` // of a restore point; a level
}

// maxEdge bounds what an index keeps of a record that crosses into another segment, in bytes; of a longer one there is
// only its length, and whoever needs it has to read the segments.
const maxEdge = 1 << 20

// edge is a part of a record.
type edge struct {
	bytes  []byte
	length int // of the part; more than there are bytes when those were too many to keep
	end    LSN // of a head: where the record after it begins; 0 when the record goes on behind the segment
}

func (e *edge) add(b []byte) {
	e.length += len(b)
	if e.length <= maxEdge {
		e.bytes = append(e.bytes, b...)
	} else {
		e.bytes = nil
	}
}

// IndexSegment reads the content of a segment, from its start, and indexes it. It fails only when r does: what a segment
// has instead of valid records is told by the index.
func IndexSegment(s Segment, r io.Reader) (*Index, error) {
	x := newIndexer(s)
	if _, err := io.CopyBuffer(x, r, make([]byte, readSize)); err != nil {
		return nil, fmt.Errorf("wal: index %s: %w", s, err)
	}
	return x.finish(), nil
}

// indexer makes an index of what is written to it, which is one segment.
type indexer struct {
	ix      *Index
	scan    *scanner
	told    account
	failure error
}

func newIndexer(s Segment) *indexer {
	x := &indexer{ix: &Index{Segment: s}}
	x.scan = newScanner(nil, func(r *Record) bool {
		x.failure = x.told.record(r)
		return x.failure == nil
	})
	x.scan.front = &x.ix.head
	return x
}

// Write implements io.Writer. It never fails: what cannot be read ends the index.
func (x *indexer) Write(b []byte) (int, error) {
	_ = x.scan.write(b)
	return len(b), nil
}

// finish returns the index.
func (x *indexer) finish() *Index {
	ix, s := x.ix, x.scan
	ix.Major, ix.overwrites = s.major, s.overwrites
	ix.Commits, ix.Events, ix.changes = x.told.commits, x.told.events, x.told.changes()
	ix.ends = &x.told.ends
	ix.End = s.lsn
	if s.missing > 0 {
		ix.tail.add(s.record)
		ix.tailAt, ix.tailTLI = s.begin, s.tli
	}
	err := s.err
	if errors.Is(err, errStopped) {
		err = x.failure
	}
	if err != nil {
		ix.Damage = err.Error()
		ix.tail, ix.tailAt = edge{}, 0
		var at *RecordError
		if errors.As(err, &at) {
			ix.End = at.LSN
		}
	}
	return ix
}

// account is what records tell, one after the other. The zero value is ready.
type account struct {
	commits Commits
	ends    ends
	events  []Event
	gatherer
}

// record adds what a record tells. It fails when the record cannot be decoded.
func (a *account) record(r *Record) error {
	p, err := r.Payload()
	if err != nil {
		return err
	}
	a.events = appendEvents(a.events, r, p)
	if t, ok := p.(*Transaction); ok && t.Outcome != Prepared {
		a.ends.add(t.XID, t.Time)
		if t.Outcome == Committed {
			a.commits.add(t.Time)
		}
	}
	a.gatherer.record(r, p)
	return nil
}

// appendEvents adds what a record tells.
func appendEvents(all []Event, r *Record, payload any) []Event {
	if payload == nil {
		return all
	}
	e := eventOf(r)
	switch p := payload.(type) {
	case *Transaction:
		if p.Outcome != Committed || len(p.Dropped) == 0 {
			return all
		}
		e.Kind, e.XID, e.Time, e.Relations = EventDrop, p.XID, p.Time, p.Dropped
	case *RelationTruncate:
		if !p.Main {
			return all
		}
		e.Kind, e.Relations = EventTruncate, []Relation{p.Relation}
	case *RestorePoint:
		e.Kind, e.Time, e.Name = EventRestorePoint, p.Time, p.Name
	case *Checkpoint:
		e.Kind, e.Time = EventCheckpoint, p.Time
	case *DatabaseCreate:
		e.Kind, e.Relations = EventDatabaseCreate, []Relation{{Tablespace: p.Tablespace, Database: p.Database}}
	case *DatabaseDrop:
		e.Kind = EventDatabaseDrop
		for _, t := range p.Tablespaces {
			e.Relations = append(e.Relations, Relation{Tablespace: t, Database: p.Database})
		}
	case *ParameterChange:
		e.Kind, e.Name = EventWALLevel, p.WALLevel.String()
	case *EndOfRecovery:
		e.Kind, e.Time = EventTimeline, p.Time
	default:
		return all
	}
	return append(all, e)
}

func eventOf(r *Record) Event {
	return Event{Timeline: r.Timeline, LSN: r.LSN, End: r.End, Prev: r.Prev, XID: r.XID}
}

// endOf returns the commit or abort that a record is.
func endOf(r *Record) (Event, bool) {
	if r.Resource != ResourceTransaction {
		return Event{}, false
	}
	p, _ := r.Payload()
	t, ok := p.(*Transaction)
	if !ok || t.Outcome == Prepared {
		return Event{}, false
	}
	e := eventOf(r)
	e.Kind, e.XID, e.Time, e.Relations = EventAbort, t.XID, t.Time, t.Dropped
	if t.Outcome == Committed {
		e.Kind = EventCommit
	}
	return e, true
}
