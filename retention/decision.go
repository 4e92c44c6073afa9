package retention

import (
	"encoding/json"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// Decision is what a policy says of a catalogue and its WAL.
//
// Backups are to be dropped in the order of Drop, and before WAL is: then deciding again after each step decides the same.
type Decision struct {
	Keep []Verdict `json:"keep"` // oldest first
	Drop []Verdict `json:"drop"` // oldest first, after those that are given up

	// Floors are where the WAL begins that is kept without end; before it, less may be. A timeline that no kept backup
	// leads to has none.
	Floors []Floor `json:"wal_floor"` // ascending by cluster and timeline

	// WAL is what to keep, of what is archived already and of what is still to come; no two of a timeline overlap or touch.
	WAL []Span `json:"wal_keep"` // ascending by cluster, timeline and segment

	// DropWAL is what the coverage holds outside of WAL: what it did not hold is not in it, and so is not to be deleted.
	// Histories are not WAL, and stay: by them PostgreSQL tells which timelines were.
	DropWAL []Span `json:"wal_drop"` // ascending by cluster, timeline and segment
}

// Verdict is the decision on one backup.
type Verdict struct {
	Backup  backup.ID `json:"id"`
	Reasons []string  `json:"reasons"` // why it is kept, or why not; never empty
}

// Floor is the first segment of a timeline from which on all WAL is kept.
type Floor struct {
	SystemID uint64
	Segment  wal.Segment
}

// MarshalJSON implements json.Marshaler: the system identifier, the timeline and the name of the segment.
func (f Floor) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		SystemID uint64       `json:"system_id,string"`
		Timeline wal.Timeline `json:"timeline"`
		Segment  string       `json:"segment"`
	}{f.SystemID, f.Segment.Timeline, f.Segment.Name()})
}

// Span is a run of segments of one timeline.
type Span struct {
	SystemID uint64
	First    wal.Segment
	Last     *wal.Segment // in it; nil: whatever is archived, now or later
	Reason   string       // why it is kept from First on, or is not
}

// Has tells whether a segment of a cluster is in the span.
func (s Span) Has(systemID uint64, seg wal.Segment) bool {
	return s.SystemID == systemID && s.First.Timeline == seg.Timeline && s.First.Number <= seg.Number &&
		(s.Last == nil || seg.Number <= s.Last.Number)
}

// overlaps tells whether any of some segments of a timeline of a cluster is in the span.
func (s Span) overlaps(systemID uint64, first, last wal.Segment) bool {
	return s.SystemID == systemID && s.First.Timeline == first.Timeline && s.First.Number <= last.Number &&
		(s.Last == nil || first.Number <= s.Last.Number)
}

// MarshalJSON implements json.Marshaler: the system identifier, the timeline, the names of both ends, the last one unless
// there is none, and the reason.
func (s Span) MarshalJSON() ([]byte, error) {
	to := ""
	if s.Last != nil {
		to = s.Last.Name()
	}
	return json.Marshal(struct {
		SystemID uint64       `json:"system_id,string"`
		Timeline wal.Timeline `json:"timeline"`
		From     string       `json:"from"`
		To       string       `json:"to,omitempty"` // in the span
		Reason   string       `json:"reason"`
	}{s.SystemID, s.First.Timeline, s.First.Name(), to, s.Reason})
}
