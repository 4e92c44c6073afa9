package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// span finds the WAL to keep, once it is decided which backups are.
func (c *cluster) span(p Policy, now time.Time) {
	var kept []*backup.Summary
	for _, b := range c.backups {
		if len(c.reasons[b.ID]) > 0 {
			kept = append(kept, b)
		}
	}
	for _, w := range c.ways {
		c.spanWay(w, kept, p, now)
		if !w.known {
			c.spanUnknown(w.timeline, kept)
		}
	}
	if p.KeepWAL > 0 {
		c.spanTime(kept, p.KeepWAL, now)
	}
	if len(c.ways) > 0 && len(kept) == 0 {
		for _, w := range c.ways {
			c.add(stretch{w.timeline, 0, noEnd, "there is no backup yet"})
		}
	} else if len(c.ways) > 0 {
		newest := c.ways[len(c.ways)-1].timeline
		if !slices.ContainsFunc(c.wal, func(s stretch) bool { return s.timeline == newest && s.last == noEnd }) {
			c.add(stretch{newest, 0, noEnd, "no backup leads to the newest timeline yet"})
		}
	}
	c.wal = union(c.wal)
}

func (c *cluster) add(s ...stretch) { c.wal = append(c.wal, s...) }

// spanWay keeps what the kept backups on a way need.
func (c *cluster) spanWay(w way, kept []*backup.Summary, p Policy, now time.Time) {
	goesOn := true
	var base *backup.Summary // before which backups are only to become consistent; nil: none is
	if p.KeepWAL > 0 {
		since := now.Add(-p.KeepWAL)
		goesOn = c.latest(w) || c.alive(kept, w.timeline, since)
		base = c.base(w, since, c.reasons)
	}
	for _, b := range kept {
		if !w.has(b) {
			continue
		}
		var needed []stretch
		var reason string
		if goesOn && (base == nil || older(b, base) >= 0) {
			needed, reason = w.from(b), fmt.Sprintf("recovery from backup %s on reads it", b.ID)
		} else {
			last := b.LastSegment()
			if b.StopLSN == last.End() {
				last = last.Next() // to stop there, PostgreSQL has to see a record behind it
			}
			needed, reason = w.upTo(b, last.Number), fmt.Sprintf("backup %s needs it to become consistent", b.ID)
		}
		for _, s := range needed {
			s.reason = reason
			c.add(s)
		}
	}
}

// latest tells whether a way leads to the latest that there is of the cluster, however long ago that was.
func (c *cluster) latest(w way) bool {
	for _, b := range c.backups {
		if c.restorable[b.ID] {
			return w.timeline == b.Timeline || w.timeline == c.ways[len(c.ways)-1].timeline
		}
	}
	return true
}

// spanUnknown keeps what may be on the way from older timelines: which of them, the missing history would tell.
func (c *cluster) spanUnknown(t wal.Timeline, kept []*backup.Summary) {
	first, found := uint64(noEnd), false
	for _, b := range kept {
		if b.Timeline < t {
			first, found = min(first, b.FirstSegment().Number), true
		}
	}
	if found {
		c.add(stretch{t, first, noEnd, "the timeline's history is not archived: recovery from an older one may read it"})
	}
}

// spanTime keeps what may have been written within a duration.
func (c *cluster) spanTime(kept []*backup.Summary, d time.Duration, now time.Time) {
	if c.coverage == nil {
		return
	}
	since := now.Add(-d)
	reason := fmt.Sprintf("WAL of the last %s, or of unknown age", d)
	for _, t := range c.coverage.Timelines {
		from := c.writtenBefore(kept, t.Timeline, since)
		for _, r := range t.Held() {
			if first := max(r.First.Number, from); first <= r.Last.Number && !endedBefore(r, since) {
				c.add(stretch{t.Timeline, first, r.Last.Number, reason})
			}
		}
	}
}

// union joins stretches that overlap or touch. Of their reasons it leaves that of the first.
func union(all []stretch) []stretch {
	slices.SortFunc(all, func(a, b stretch) int {
		return cmp.Or(cmp.Compare(a.timeline, b.timeline), cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last), cmp.Compare(a.reason, b.reason))
	})
	var out []stretch
	for _, s := range all {
		if n := len(out); n > 0 && out[n-1].timeline == s.timeline && (out[n-1].last == noEnd || s.first <= out[n-1].last+1) {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// addWAL adds a cluster's WAL to the decision: what is kept, and what is held besides.
func (d *Decision) addWAL(c *cluster) {
	for _, s := range c.wal {
		d.WAL = append(d.WAL, c.spanOf(s))
		if s.last == noEnd {
			d.Floors = append(d.Floors, Floor{SystemID: c.id, Segment: c.segment(s.timeline, s.first)})
		}
	}
	if c.coverage == nil {
		return
	}
	for _, t := range c.coverage.Timelines {
		for _, r := range t.Held() {
			for _, s := range c.outside(stretch{t.Timeline, r.First.Number, r.Last.Number, "no kept backup needs it"}) {
				d.DropWAL = append(d.DropWAL, c.spanOf(s))
			}
		}
	}
}

// outside returns the parts of a stretch that are not kept.
func (c *cluster) outside(s stretch) []stretch {
	var out []stretch
	for _, k := range c.wal {
		if k.timeline != s.timeline || k.last < s.first || k.first > s.last {
			continue
		}
		if s.first < k.first {
			out = append(out, stretch{s.timeline, s.first, k.first - 1, s.reason})
		}
		if k.last >= s.last {
			return out
		}
		s.first = k.last + 1
	}
	return append(out, s)
}

func (c *cluster) segment(t wal.Timeline, n uint64) wal.Segment {
	return wal.Segment{Timeline: t, Number: n, Size: c.size}
}

func (c *cluster) spanOf(s stretch) Span {
	span := Span{SystemID: c.id, First: c.segment(s.timeline, s.first), Reason: s.reason}
	if s.last != noEnd {
		last := c.segment(s.timeline, s.last)
		span.Last = &last
	}
	return span
}
