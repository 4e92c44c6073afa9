package backup

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pgcairn/pgcairn/wal"
)

// stretch is positions [from, to) on a timeline.
type stretch struct {
	timeline wal.Timeline
	from, to wal.LSN
}

// reachable tells what can be recovered from backups of a cluster: the positions, ascending and apart, and which backups
// cannot be restored since WAL is missing that makes them consistent. It is pure.
func reachable(all []*Summary, c wal.Coverage) (reached []stretch, lost []ID) {
	for _, b := range all {
		alive := false
		for _, t := range c.Timelines {
			h, ok := c.History(t.Timeline)
			if !ok {
				h = wal.History{Timeline: t.Timeline} // from its own backups on
			}
			if left, ok := h.Until(b.Timeline); !ok || left != 0 && left < b.StopLSN {
				continue
			}
			way, ok := walk(b, h, c)
			alive = alive || ok
			reached = append(reached, way...)
		}
		if !alive {
			lost = append(lost, b.ID)
		}
	}
	return union(reached), lost
}

// walk follows a history from a backup on, as recovery does, for as long as there is WAL. ok is false where the backup does
// not become consistent.
func walk(b *Summary, h wal.History, c wal.Coverage) (way []stretch, ok bool) {
	consistent := false
	add := func(t wal.Timeline, from, to wal.LSN) {
		consistent = consistent || t == b.Timeline && to >= b.StopLSN || t > b.Timeline
		if from = max(from, b.StopLSN); from < to {
			way = append(way, stretch{t, from, to})
		}
	}
	for at := b.FirstSegment(); ; {
		until, next, left := h.Leaves(at)
		if !left || at.Number < until.Number {
			last, held := c.From(at)
			if held && left && last.Number >= until.Number {
				last = until.Prev()
			}
			end := at.Start()
			if held {
				end = last.End()
				add(at.Timeline, at.Start(), end)
			}
			if !left || end < until.Start() {
				if t := c.Timeline(at.Timeline); t != nil && t.Partial != nil && t.Partial.Segment.Start() == end {
					add(at.Timeline, end, t.Partial.End)
				}
				break
			}
		}
		at = until.On(next)
	}
	if !consistent {
		return nil, false
	}
	return way, true
}

// union joins stretches that overlap or touch.
func union(all []stretch) []stretch {
	slices.SortFunc(all, func(a, b stretch) int {
		return cmp.Or(cmp.Compare(a.timeline, b.timeline), cmp.Compare(a.from, b.from))
	})
	var out []stretch
	for _, s := range all {
		if n := len(out); n > 0 && out[n-1].timeline == s.timeline && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// minus is what is in one set of stretches and not in another; both are unions.
func minus(all, without []stretch) []stretch {
	var out []stretch
	for _, s := range all {
		for _, w := range without {
			if w.timeline != s.timeline || w.to <= s.from || w.from >= s.to {
				continue
			}
			if s.from < w.from {
				out = append(out, stretch{s.timeline, s.from, w.from})
			}
			s.from = w.to
			if s.from >= s.to {
				break
			}
		}
		if s.from < s.to {
			out = append(out, s)
		}
	}
	return out
}

// filled is a coverage as it would be without gaps, but for those that are meant to be: with all that lies between segments
// that are held, and what backups need.
func filled(c wal.Coverage, all []*Summary, meant func(wal.Range) bool) wal.Coverage {
	out := wal.Coverage{System: c.System}
	seen := map[wal.Timeline]bool{}
	on := crossings(c, all)
	for _, t := range c.Timelines {
		seen[t.Timeline] = true
		t.Ranges = fill(t, all, on[t.Timeline], meant)
		if n := len(t.Ranges); t.Partial != nil && n > 0 && t.Ranges[n-1].Last.Number >= t.Partial.Segment.Number {
			t.Partial = nil
		}
		out.Timelines = append(out.Timelines, t)
	}
	nothing := slices.Collect(maps.Keys(on)) // of timelines of which nothing is held
	for _, b := range all {
		nothing = append(nothing, b.Timeline)
	}
	for _, id := range nothing {
		if !seen[id] {
			seen[id] = true
			t := wal.TimelineCoverage{Timeline: id}
			t.Ranges = fill(t, all, on[id], meant)
			out.Timelines = append(out.Timelines, t)
		}
	}
	slices.SortFunc(out.Timelines, func(a, b wal.TimelineCoverage) int { return cmp.Compare(a.Timeline, b.Timeline) })
	return out
}

// crossings are the segments, by timeline, by which backups come to segments that are held of later timelines: up to those
// in which timelines were left, and from there to the first that is held.
func crossings(c wal.Coverage, all []*Summary) map[wal.Timeline]wal.Range {
	on := map[wal.Timeline]wal.Range{}
	for _, t := range c.Timelines {
		h, ok := c.History(t.Timeline)
		held := t.Held()
		if !ok || len(held) == 0 {
			continue
		}
		for _, b := range all {
			left, ok := h.Until(b.Timeline)
			if !ok || left == 0 || left < b.StopLSN {
				continue
			}
			from := b.LastSegment()
			for from.Timeline != t.Timeline {
				until, next, _ := h.Leaves(from)
				if from.Number < until.Number {
					widen(on, wal.Range{First: from, Last: until.Prev()})
				}
				from = until.On(next)
			}
			if from.Number < held[0].First.Number {
				widen(on, wal.Range{First: from, Last: held[0].First.Prev()})
			}
		}
	}
	return on
}

func widen(on map[wal.Timeline]wal.Range, r wal.Range) {
	if was, ok := on[r.First.Timeline]; ok {
		if was.First.Number < r.First.Number {
			r.First = was.First
		}
		if was.Last.Number > r.Last.Number {
			r.Last = was.Last
		}
	}
	on[r.First.Timeline] = r
}

// fill returns the segments of a timeline as they would be without gaps. Of way, the segments that backups cross, those
// before and behind all others are missing as well; no way is the zero Range.
func fill(t wal.TimelineCoverage, all []*Summary, way wal.Range, meant func(wal.Range) bool) []wal.Range {
	runs := slices.Clone(t.Ranges)
	for _, b := range all {
		if b.Timeline != t.Timeline {
			continue
		}
		need := wal.Range{First: b.FirstSegment(), Last: b.LastSegment()}
		if t.Partial != nil && t.Partial.Segment == need.Last && t.Partial.End >= b.StopLSN { // which is enough
			if need.Last.Number == need.First.Number {
				continue
			}
			need.Last = need.Last.Prev()
		}
		runs = append(runs, need)
	}
	slices.SortFunc(runs, func(a, b wal.Range) int { return cmp.Compare(a.First.Number, b.First.Number) })
	var out []wal.Range
	for _, r := range runs {
		r = wal.Range{First: r.First, Last: r.Last}
		n := len(out)
		if n == 0 {
			out = append(out, r)
			continue
		}
		last := &out[n-1].Last
		if r.First.Number > last.Number+1 && meant(wal.Range{First: last.Next(), Last: r.First.Prev()}) {
			out = append(out, r)
		} else if r.Last.Number > last.Number {
			*last = r.Last
		}
	}
	if n := len(out); n > 0 && t.Partial != nil {
		// What is missing before the segment that is held in part.
		if last := &out[n-1].Last; last.Number+1 < t.Partial.Segment.Number &&
			!meant(wal.Range{First: last.Next(), Last: t.Partial.Segment.Prev()}) {
			*last = t.Partial.Segment.Prev()
		}
	}
	if way == (wal.Range{}) {
		return out
	}
	n := len(out)
	if n == 0 {
		if !meant(way) {
			out = append(out, way)
		}
		return out
	}
	if last := &out[n-1].Last; last.Number < way.Last.Number && !meant(wal.Range{First: last.Next(), Last: way.Last}) {
		*last = way.Last
	}
	if first := &out[0].First; way.First.Number < first.Number && !meant(wal.Range{First: way.First, Last: first.Prev()}) {
		*first = way.First
	}
	return out
}

// lacking is what a coverage lacks of another.
func lacking(c, of wal.Coverage) (runs []wal.Range) {
	for _, t := range of.Timelines {
		have := c.Timeline(t.Timeline)
		for _, r := range t.Ranges {
			at := r.First
			if have != nil {
				for _, h := range have.Ranges {
					if h.Last.Number < at.Number || h.First.Number > r.Last.Number {
						continue
					}
					if h.First.Number > at.Number {
						runs = append(runs, wal.Range{First: at, Last: h.First.Prev()})
					}
					at = h.Last.Next()
				}
			}
			if at.Number <= r.Last.Number {
				runs = append(runs, wal.Range{First: at, Last: r.Last})
			}
		}
	}
	return runs
}

// flaw is what a problem takes from a coverage.
type flaw struct {
	run     *wal.Range   // of segments that are missing or wrong
	history wal.Timeline // whose history is wrong; 0: none is
	partial *wal.Segment // of which pieces are wrong
}

// without is a coverage but for what flaws take from it.
func without(c wal.Coverage, flaws []flaw) wal.Coverage {
	out := wal.Coverage{System: c.System}
	for _, t := range c.Timelines {
		for _, f := range flaws {
			if f.history == t.Timeline {
				t.History = nil
			}
			if f.partial != nil && t.Partial != nil && t.Partial.Segment == *f.partial {
				t.Partial = nil
			}
			if f.run != nil && f.run.First.Timeline == t.Timeline {
				t.Ranges = takeOut(t.Ranges, *f.run)
			}
		}
		out.Timelines = append(out.Timelines, t)
	}
	return out
}

// takeOut takes a run of segments out of others.
func takeOut(runs []wal.Range, gone wal.Range) []wal.Range {
	var out []wal.Range
	for _, r := range runs {
		if gone.Last.Number < r.First.Number || gone.First.Number > r.Last.Number {
			out = append(out, r)
			continue
		}
		if r.First.Number < gone.First.Number {
			out = append(out, wal.Range{First: r.First, Last: gone.First.Prev()})
		}
		if r.Last.Number > gone.Last.Number {
			out = append(out, wal.Range{First: gone.Last.Next(), Last: r.Last})
		}
	}
	return out
}
