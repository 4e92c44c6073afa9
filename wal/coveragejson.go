package wal

import (
	"encoding/json"
	"time"
)

// MarshalJSON implements json.Marshaler: the timeline, the names of both ends, and the times that are known.
func (r Range) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Timeline    Timeline  `json:"timeline"`
		From        string    `json:"from"`
		To          string    `json:"to"` // in the range
		FirstCommit time.Time `json:"first_commit,omitzero"`
		LastCommit  time.Time `json:"last_commit,omitzero"`
	}{r.First.Timeline, r.First.Name(), r.Last.Name(), r.FirstCommit, r.LastCommit})
}

// MarshalJSON implements json.Marshaler. The first and the last segment are null where only a history is held.
func (t TimelineCoverage) MarshalJSON() ([]byte, error) {
	var first, last *string
	if n := len(t.Ranges); n > 0 {
		f, l := t.Ranges[0].First.Name(), t.Ranges[n-1].Last.Name()
		first, last = &f, &l
	}
	return json.Marshal(struct {
		Timeline Timeline `json:"timeline"`
		First    *string  `json:"first"`
		Last     *string  `json:"last"`
		Segments int      `json:"segments"`
		Bytes    int64    `json:"bytes"`
		Ranges   []Range  `json:"ranges"`
		Gaps     []Range  `json:"gaps"`
		Partial  *Partial `json:"partial,omitempty"`
	}{t.Timeline, first, last, t.Segments, t.Bytes, append([]Range{}, t.Ranges...), append([]Range{}, t.Gaps()...), t.Partial})
}

// MarshalJSON implements json.Marshaler. The system identifier is "0" when nothing was pushed yet.
func (c Coverage) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		SystemID  uint64             `json:"system_id,string"`
		Timelines []TimelineCoverage `json:"timelines"`
	}{c.System.ID, append([]TimelineCoverage{}, c.Timelines...)})
}
