package wal

import "encoding/json"

// Partial is the last segment of a timeline, of which an archive holds the beginning: what [Archive.Receive] has shipped
// of it so far. [Archive.Fetch] fills the rest with zeros.
type Partial struct {
	Segment Segment
	End     LSN // up to where it is held
}

// MarshalJSON implements json.Marshaler: the name of the segment, and the position.
func (p Partial) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Segment string `json:"segment"`
		End     LSN    `json:"end_lsn"`
	}{p.Segment.Name(), p.End})
}

// addPartials adds what pieces hold of segments after those that are held.
func addPartials(found map[Timeline]*TimelineCoverage, pieces []piece) {
	bySegment := map[Segment][]piece{}
	for _, p := range pieces {
		bySegment[p.segment] = append(bySegment[p.segment], p)
	}
	for seg, all := range bySegment {
		n := reach(chain(all))
		if n == 0 {
			continue
		}
		t := found[seg.Timeline]
		if t == nil {
			t = &TimelineCoverage{Timeline: seg.Timeline}
			found[seg.Timeline] = t
		}
		if k := len(t.Ranges); k > 0 && t.Ranges[k-1].Last.Number >= seg.Number || t.Partial != nil && t.Partial.Segment.Number > seg.Number {
			continue
		}
		t.Partial = &Partial{Segment: seg, End: seg.Start() + LSN(n)}
	}
}
