package waltest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/pgcairn/pgcairn/wal"
)

// Log is WAL that is written record by record, as a server writes it: its records cross pages and segments, which
// pg_waldump reads. It is not safe for concurrent use.
type Log struct {
	systemID uint64
	major    int
	size     uint32 // of a segment
	timeline wal.Timeline
	at       wal.LSN // of the next byte; at the start of a page that has no header yet
	prev     wal.LSN // of the last record
	written  map[wal.Segment][]byte
}

// NewLog begins a log with a segment. It panics as [Segment] does.
func NewLog(first wal.Segment, systemID uint64, major int) *Log {
	if !wal.ValidSegmentSize(first.Size) {
		panic(fmt.Sprintf("waltest: %d bytes is no size of a segment", first.Size))
	}
	_ = magic(major)
	return &Log{
		systemID: systemID, major: major, size: first.Size, timeline: first.Timeline, at: first.Start(),
		written: map[wal.Segment][]byte{},
	}
}

// Next is where the next record begins.
func (l *Log) Next() wal.LSN {
	return l.at + wal.LSN(l.headerAt(l.at))
}

// headerAt is the size of the page header that stands at a position, or 0.
func (l *Log) headerAt(at wal.LSN) int {
	switch {
	case uint64(at)%uint64(l.size) == 0:
		return longHeader
	case at%pageSize == 0:
		return shortHeader
	}
	return 0
}

// Append writes a record, and returns where it begins and where it ends.
func (l *Log) Append(r Record) (start, end wal.LSN) {
	start = l.Next()
	b := r.encode(l.major, l.prev)
	l.prev = start
	whole := true
	for rest := b; len(rest) > 0; whole = false {
		if l.headerAt(l.at) > 0 {
			missing := 0
			if !whole {
				missing = len(rest)
			}
			l.pageHeader(missing)
		}
		n := min(len(rest), int(pageSize-l.at%pageSize))
		l.write(rest[:n])
		rest = rest[n:]
	}
	if n := (8 - l.at%8) % 8; n > 0 { // MAXALIGN
		l.write(make([]byte, n))
	}
	return start, l.at
}

// Switch completes the segment, as pg_switch_wal does; also one that holds nothing.
func (l *Log) Switch() {
	if uint64(l.at)%uint64(l.size) == 0 {
		l.Append(Noop(""))
	}
	l.Append(Record{Resource: wal.ResourceXLOG, Info: recordSwitch})
	if uint64(l.at)%uint64(l.size) != 0 { // else the record has filled it
		l.at = wal.SegmentAt(l.timeline, l.at, l.size).End()
	}
}

// Fork goes on with a later timeline, whose first segment begins with what was written of the current one.
func (l *Log) Fork(t wal.Timeline) {
	if s := wal.SegmentAt(l.timeline, l.at, l.size); l.written[s] != nil {
		l.written[s.On(t)] = slices.Clone(l.written[s])
	}
	l.timeline = t
}

// Segment returns the content of a segment: s.Size bytes, with zeros for what is not written.
func (l *Log) Segment(s wal.Segment) []byte {
	b := make([]byte, s.Size)
	copy(b, l.written[s])
	return b
}

// pageHeader begins a page, which goes on with the missing bytes of a record.
func (l *Log) pageHeader(missing int) {
	le := binary.LittleEndian
	b := make([]byte, l.headerAt(l.at))
	le.PutUint16(b, magic(l.major))
	flags := uint16(0)
	if missing > 0 {
		flags |= continuesFlag
		le.PutUint32(b[16:], uint32(missing))
	}
	if len(b) == longHeader {
		flags |= longFlag
		le.PutUint64(b[24:], l.systemID)
		le.PutUint32(b[32:], l.size)
		le.PutUint32(b[36:], pageSize)
	}
	le.PutUint16(b[2:], flags)
	le.PutUint32(b[4:], uint32(l.timeline))
	le.PutUint64(b[8:], uint64(l.at))
	l.write(b)
}

func (l *Log) write(b []byte) {
	s := wal.SegmentAt(l.timeline, l.at, l.size)
	l.written[s] = append(l.written[s], b...)
	l.at += wal.LSN(len(b))
}
