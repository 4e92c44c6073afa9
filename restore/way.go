package restore

import (
	"fmt"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// walk follows a history from the plan's backup on, and enters the WAL that recovery will read.
func (p *planner) walk(plan *Plan, h wal.History) error {
	at := plan.Backup.FirstSegment()
	for {
		until, next, left := h.Leaves(at)
		if !left || at.Number < until.Number {
			last, ok := p.coverage.From(at)
			if !ok {
				return p.stop(plan, h, at)
			}
			if left && last.Number >= until.Number {
				last = until.Prev()
			}
			plan.WAL = append(plan.WAL, wal.Range{First: at, Last: last})
			if !left || last.Next().Number < until.Number {
				return p.stop(plan, h, last.Next())
			}
		}
		at = until.On(next)
	}
}

// stop decides what it means that a segment is missing on the way.
func (p *planner) stop(plan *Plan, h wal.History, missing wal.Segment) error {
	plan.extend(p.coverage, missing)
	if !plan.consistent() {
		return p.gap(plan, h, missing)
	}
	if p.options.Log != nil {
		return p.replay(plan, h, missing)
	}
	if err := p.end(plan, h, missing); err != nil {
		return err
	}
	return nil
}

// extend adds what is held of the segment where the WAL that is held in full ends.
func (p *Plan) extend(c wal.Coverage, missing wal.Segment) {
	t := c.Timeline(missing.Timeline)
	if t == nil || t.Partial == nil || t.Partial.Segment != missing {
		return
	}
	p.partial = t.Partial
	if n := len(p.WAL); n > 0 && p.WAL[n-1].Last.Next() == missing {
		p.WAL[n-1].Last = missing
		return
	}
	p.WAL = append(p.WAL, wal.Range{First: missing, Last: missing})
}

// consistent tells whether the plan's WAL goes as far as its backup needs.
func (p *Plan) consistent() bool {
	return len(p.WAL) > 0 && p.WAL[len(p.WAL)-1].Last.Number >= p.Backup.LastSegment().Number && p.End() >= p.Backup.StopLSN
}

// gap is why a backup cannot become consistent.
func (p *planner) gap(plan *Plan, h wal.History, missing wal.Segment) *UnreachableError {
	lacking, _ := p.lacking(plan, h, missing)
	return p.unreachable(fmt.Sprintf("backup %s needs WAL up to %s, and segment %s is not archived",
		plan.Backup.ID, plan.Backup.StopLSN, missing), lacking, nil)
}

// end decides whether the target lies before the first segment that is missing.
func (p *planner) end(plan *Plan, h wal.History, missing wal.Segment) *UnreachableError {
	end := missing.Start()
	what := fmt.Sprintf("segment %s is not archived", missing)
	lacking, beyond := p.lacking(plan, h, missing)
	if plan.partial != nil {
		end = plan.partial.End
		what = fmt.Sprintf("segment %s is archived up to %s", missing, end)
	}
	before := &Point{LSN: end}
	switch p.target.Kind {
	case KindImmediate:
		plan.trimToConsistent()
		return nil
	case KindLSN:
		if p.target.LSN >= end {
			return p.unreachable("the WAL ends before it: "+what, lacking, before)
		}
		// PostgreSQL has to see the record after an exclusive target, and the end of an inclusive one.
		plan.trim(uint64(p.target.LSN)/uint64(missing.Size) + 1)
		return nil
	case KindLatest:
		if beyond || !plan.arrives() {
			return p.unreachable(plan.lacks(missing, beyond), lacking, before)
		}
	case KindTime:
		if b := p.later(h, end); b != nil {
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

// later returns a backup on the way that proves a target time to be after the end of the WAL.
func (p *planner) later(h wal.History, end wal.LSN) *backup.Summary {
	for _, b := range p.backups {
		left, ok := h.Until(b.Timeline)
		if ok && (left == 0 || b.StopLSN <= left) && b.StopLSN > end && b.StoppedAt.Before(p.target.Time) {
			return b
		}
	}
	return nil
}

// holds tells whether the plan's WAL goes as far as the end of a segment.
func (p *Plan) holds(s wal.Segment) bool { return p.End() >= s.End() }

// trimToConsistent leaves what the backup needs. To stop there, PostgreSQL has to see a record behind it.
func (p *Plan) trimToConsistent() {
	last := p.Backup.LastSegment()
	if p.Backup.StopLSN == last.End() && p.holds(last.Next()) {
		last = last.Next()
	}
	p.trim(last.Number)
}

// arrives tells whether the plan's WAL gets to the timeline that it is to end on.
func (p *Plan) arrives() bool { return p.WAL[len(p.WAL)-1].Last.Timeline == p.Timeline }

// lacks is why the end of the archive cannot be recovered.
func (p *Plan) lacks(missing wal.Segment, beyond bool) string {
	if beyond {
		return fmt.Sprintf("segment %s is missing, and there are later ones", missing)
	}
	return fmt.Sprintf("segment %s is missing, and with it all of timeline %d", missing, p.Timeline)
}

// trim drops the WAL after a segment number.
func (p *Plan) trim(last uint64) {
	for i, r := range p.WAL {
		if r.Last.Number > last {
			p.partial = nil
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
		until, next, left := h.Leaves(at)
		if held, ok := p.nextHeld(at); ok && (!left || held.Number < until.Number) {
			if held.Number > at.Number {
				lacking = append(lacking, wal.Range{First: at, Last: held.Prev()})
			}
			return lacking, true
		}
		if !left {
			return []wal.Range{{First: first, Last: first}}, false
		}
		if at.Number < until.Number {
			lacking = append(lacking, wal.Range{First: at, Last: until.Prev()})
			at = until
		}
		at = at.On(next)
	}
}

// lacking is [planner.missing] for a segment of which the plan may have a part.
func (p *planner) lacking(plan *Plan, h wal.History, missing wal.Segment) (lacking []wal.Range, beyond bool) {
	if plan.partial == nil {
		return p.missing(h, missing)
	}
	_, beyond = p.missing(h, missing.Next())
	return []wal.Range{{First: missing, Last: missing}}, beyond
}

// nextHeld returns the first segment that is held of a timeline, in full or in part, from a segment on.
func (p *planner) nextHeld(from wal.Segment) (wal.Segment, bool) {
	if t := p.coverage.Timeline(from.Timeline); t != nil {
		for _, r := range t.Ranges {
			if r.Last.Number >= from.Number {
				return wal.Segment{Timeline: from.Timeline, Number: max(r.First.Number, from.Number), Size: from.Size}, true
			}
		}
		if t.Partial != nil && t.Partial.Segment.Number >= from.Number {
			return t.Partial.Segment, true
		}
	}
	return wal.Segment{}, false
}
