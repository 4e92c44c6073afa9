package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is what a file that archive_command is given can be.
type Kind int

// The kinds of files in an archive.
const (
	KindSegment Kind = iota // 000000010000000000000002
	KindPartial             // 000000010000000000000002.partial: the last segment of a timeline that was left
	KindHistory             // 00000002.history: where a timeline branched off
	KindBackup              // 000000010000000000000002.00000028.backup: notes on a base backup
)

// Name is the parsed name of a file of the archive (xlog_internal.h: IsXLogFileName and its neighbours).
type Name struct {
	Kind     Kind
	Timeline Timeline
	text     string
	high     uint32 // second eight digits of a segment's name
	low      uint32 // third
}

// note tells whether it is of a file that does not tell which cluster it is of.
func (n Name) note() bool { return n.Kind == KindHistory || n.Kind == KindBackup }

// NameError means that a name is not that of any file an archive holds.
type NameError struct {
	Name   string
	Reason string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("%q is not the name of a WAL file: %s", e.Name, e.Reason)
}

// ParseName parses the name of a file in pg_wal, without directories.
func ParseName(name string) (Name, error) {
	bad := func(reason string) (Name, error) { return Name{}, &NameError{Name: name, Reason: reason} }
	if base, ok := strings.CutSuffix(name, ".history"); ok {
		t, err := ParseTimeline(base)
		if err != nil {
			return bad("a history is named by a timeline")
		}
		// The first has none, but recovery asks for it all the same (writeTimeLineHistory of timeline.c).
		return Name{Kind: KindHistory, Timeline: t, text: name}, nil
	}
	base, suffix, dotted := strings.Cut(name, ".")
	if len(base) != 24 || !upperHex(base) {
		return bad("want 24 upper-case hexadecimal digits")
	}
	t, err := ParseTimeline(base[:8])
	if err != nil {
		return bad("timeline 0")
	}
	high, _ := strconv.ParseUint(base[8:16], 16, 32)
	low, _ := strconv.ParseUint(base[16:], 16, 32)
	if low >= (1<<32)/MinSegmentSize {
		return bad("segment number out of range")
	}
	n := Name{Timeline: t, text: name, high: uint32(high), low: uint32(low)}
	offset, isBackup := strings.CutSuffix(suffix, ".backup")
	switch {
	case !dotted:
		n.Kind = KindSegment
	case suffix == "partial":
		n.Kind = KindPartial
	case isBackup && len(offset) == 8 && upperHex(offset):
		n.Kind = KindBackup
	default:
		return bad("unknown suffix")
	}
	return n, nil
}

// String returns the name as it was parsed.
func (n Name) String() string { return n.text }

// place is the part of a segment's name behind the timeline, and what follows: it sorts as the numbers of segments do. A
// history has none.
func (n Name) place() string { return n.text[8:] }

// Segment returns the segment that a name is of or, for KindPartial and KindBackup, about. size is the segment size of
// the cluster in bytes.
func (n Name) Segment(size uint32) (Segment, error) {
	if n.Kind == KindHistory {
		return Segment{}, &NameError{Name: n.text, Reason: "a history is of no segment"}
	}
	if !ValidSegmentSize(size) {
		return Segment{}, fmt.Errorf("wal: %d bytes is no size of a segment", size)
	}
	per := (uint64(1) << 32) / uint64(size)
	if uint64(n.low) >= per {
		return Segment{}, &NameError{Name: n.text, Reason: fmt.Sprintf("segment number out of range for segments of %d bytes", size)}
	}
	return Segment{Timeline: n.Timeline, Number: uint64(n.high)*per + uint64(n.low), Size: size}, nil
}

func upperHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
