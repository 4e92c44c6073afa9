package restore

import (
	"fmt"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// walk follows a history from the plan's backup on, and enters the WAL that recovery will read.
func (p *planner) walk(plan *Plan, h wal.History) *UnreachableError {
	at := plan.Backup.FirstSegment()
	for {
		until, next := leaves(h, at)
		if until == nil || at.Number < until.Number {
			last, ok := p.coverage.From(at)
			if !ok {
				return p.stop(plan, h, at)
			}
			if until != nil && last.Number >= until.Number {
				last = until.Prev()
			}
			plan.WAL = append(plan.WAL, wal.Range{First: at, Last: last})
			if until == nil || last.Next().Number < until.Number {
				return p.stop(plan, h, last.Next())
			}
		}
		at = until.On(next)
	}
}

// leaves returns the segment in which a history leaves the timeline of s, or nil when it ends there. That segment is
// read from the next timeline, which begins with a copy.
func leaves(h wal.History, s wal.Segment) (until *wal.Segment, next wal.Timeline) {
	for _, f := range h.Forks {
		if f.Timeline == s.Timeline {
			in := wal.SegmentAt(s.Timeline, f.At, s.Size)
			return &in, h.At(f.At)
		}
	}
	return nil, h.Timeline
}

// stop decides what it means that a segment is missing on the way.
func (p *planner) stop(plan *Plan, h wal.History, missing wal.Segment) *UnreachableError {
	if !plan.consistent() {
		return p.gap(plan, h, missing)
	}
	return p.end(plan, h, missing)
}

// consistent tells whether the plan's WAL goes as far as its backup needs.
func (p *Plan) consistent() bool {
	return len(p.WAL) > 0 && p.WAL[len(p.WAL)-1].Last.Number >= p.Backup.LastSegment().Number
}

// gap is why a backup cannot become consistent.
func (p *planner) gap(plan *Plan, h wal.History, missing wal.Segment) *UnreachableError {
	lacking, _ := p.missing(h, missing)
	return p.unreachable(fmt.Sprintf("backup %s needs WAL up to %s, and segment %s is not archived",
		plan.Backup.ID, plan.Backup.StopLSN, missing), lacking, nil)
}

// end decides whether the target lies before the first segment that is missing.
func (p *planner) end(plan *Plan, h wal.History, missing wal.Segment) *UnreachableError {
	before := &Point{LSN: missing.Start()}
	lacking, beyond := p.missing(h, missing)
	switch p.target.Kind {
	case KindImmediate:
		// No more than this is needed.
		plan.trim(plan.Backup.LastSegment().Number)
		return nil
	case KindLSN:
		if p.target.LSN >= missing.Start() {
			return p.unreachable(fmt.Sprintf("the WAL ends before it: segment %s is not archived", missing), lacking, before)
		}
		// PostgreSQL has to see the record after an exclusive target, and the end of an inclusive one.
		plan.trim(uint64(p.target.LSN)/uint64(missing.Size) + 1)
		return nil
	case KindLatest:
		if beyond {
			return p.unreachable(fmt.Sprintf("segment %s is missing, and there are later ones", missing), lacking, before)
		}
	case KindTime:
		if b := p.later(h, missing); b != nil {
			return p.unreachable(fmt.Sprintf("segment %s is missing, and backup %s, which ended before the target, is later than that",
				missing, b.ID), lacking, before)
		}
	}
	if beyond {
		plan.Warnings = append(plan.Warnings, fmt.Sprintf(
			"segment %s is missing: a target after %s cannot be reached", missing, missing.Start()))
	}
	return nil
}

// later returns a backup on the way that proves a target time to be after a missing segment.
func (p *planner) later(h wal.History, missing wal.Segment) *backup.Summary {
	for _, b := range p.backups {
		left, ok := h.Until(b.Timeline)
		if ok && (left == 0 || b.StopLSN <= left) && b.StopLSN > missing.Start() && b.StoppedAt.Before(p.target.Time) {
			return b
		}
	}
	return nil
}

// trim drops the WAL after a segment number.
func (p *Plan) trim(last uint64) {
	for i, r := range p.WAL {
		if r.Last.Number > last {
			p.WAL[i].Last.Number = max(last, r.First.Number)
			p.WAL = p.WAL[:i+1]
			return
		}
	}
}

// missing returns the runs of segments on the way that are missing, from the first such segment to the next that is
// held, and whether there is one. Without one, only the first segment counts as missing.
func (p *planner) missing(h wal.History, first wal.Segment) (lacking []wal.Range, beyond bool) {
	for at := first; ; {
		until, next := leaves(h, at)
		if held, ok := p.nextHeld(at); ok && (until == nil || held.Number < until.Number) {
			if held.Number > at.Number {
				lacking = append(lacking, wal.Range{First: at, Last: held.Prev()})
			}
			return lacking, true
		}
		if until == nil {
			return []wal.Range{{First: first, Last: first}}, false
		}
		if at.Number < until.Number {
			lacking = append(lacking, wal.Range{First: at, Last: until.Prev()})
			at = *until
		}
		at = at.On(next)
	}
}

// nextHeld returns the first segment that is held of a timeline, from a segment on.
func (p *planner) nextHeld(from wal.Segment) (wal.Segment, bool) {
	if t := p.coverage.Timeline(from.Timeline); t != nil {
		for _, r := range t.Ranges {
			if r.Last.Number >= from.Number {
				return wal.Segment{Timeline: from.Timeline, Number: max(r.First.Number, from.Number), Size: from.Size}, true
			}
		}
	}
	return wal.Segment{}, false
}
