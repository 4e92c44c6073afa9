package wal

import (
	"fmt"
	"strconv"
)

// Bounds of a segment's size in bytes, which initdb --wal-segsize sets; it is a power of two.
const (
	MinSegmentSize     = 1 << 20
	MaxSegmentSize     = 1 << 30
	DefaultSegmentSize = 16 << 20
)

// Timeline is a timeline ID. The first is 1. File names give it as eight hexadecimal digits.
type Timeline uint32

// Segment is one file of the WAL: bytes [Number*Size, (Number+1)*Size) of a timeline.
type Segment struct {
	Timeline Timeline
	Number   uint64 // counted in segments from the start of the WAL
	Size     uint32 // in bytes
}

// SegmentAt returns the segment that holds the byte at an LSN.
func SegmentAt(t Timeline, at LSN, size uint32) Segment {
	return Segment{Timeline: t, Number: uint64(at) / uint64(size), Size: size}
}

// ParseSegment parses the name of a segment file, given the size of segments in its cluster.
func ParseSegment(name string, size uint32) (Segment, error) {
	n, err := ParseName(name)
	if err != nil {
		return Segment{}, err
	}
	if n.Kind != KindSegment {
		return Segment{}, &NameError{Name: name, Reason: "not a segment"}
	}
	return n.Segment(size)
}

// ValidSegmentSize tells whether a cluster can have segments of that many bytes.
func ValidSegmentSize(size uint32) bool {
	return size >= MinSegmentSize && size <= MaxSegmentSize && size&(size-1) == 0
}

// Name returns the name of the segment's file (XLogFileName of PostgreSQL's xlog_internal.h).
func (s Segment) Name() string {
	per := (uint64(1) << 32) / uint64(s.Size)
	return fmt.Sprintf("%08X%08X%08X", uint32(s.Timeline), s.Number/per, s.Number%per)
}

// String returns the name.
func (s Segment) String() string { return s.Name() }

// Start is the position of the segment's first byte.
func (s Segment) Start() LSN { return LSN(s.Number * uint64(s.Size)) }

// End is the position just after the segment's last byte.
func (s Segment) End() LSN { return LSN((s.Number + 1) * uint64(s.Size)) }

// Next returns the segment that follows on the same timeline.
func (s Segment) Next() Segment {
	s.Number++
	return s
}

// Prev returns the segment before it on the same timeline. The first has none; it returns itself.
func (s Segment) Prev() Segment {
	if s.Number > 0 {
		s.Number--
	}
	return s
}

// On returns the segment of the same number on another timeline.
func (s Segment) On(t Timeline) Segment {
	s.Timeline = t
	return s
}

// ParseTimeline parses the eight hexadecimal digits that file names give a timeline as.
func ParseTimeline(s string) (Timeline, error) {
	t, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) != 8 || !upperHex(s) || t == 0 {
		return 0, fmt.Errorf("wal: %q is not a timeline: want eight hexadecimal digits", s)
	}
	return Timeline(t), nil
}

// HistoryName returns the name of the timeline's history file.
func (t Timeline) HistoryName() string { return fmt.Sprintf("%08X.history", uint32(t)) }
