package retention

import (
	"math"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// noEnd is the last segment of a stretch that takes in whatever comes.
const noEnd = math.MaxUint64

// stretch is a run of segments of one timeline, by their numbers; both ends are in it.
type stretch struct {
	timeline    wal.Timeline
	first, last uint64
	reason      string
}

// way is how the WAL comes to a timeline.
type way struct {
	timeline wal.Timeline
	history  wal.History
	known    bool // else the history is not archived, and begins with the timeline
}

func (c *cluster) wayTo(t wal.Timeline) way {
	if c.coverage != nil {
		if h, ok := c.coverage.History(t); ok {
			return way{t, h, true}
		}
	}
	return way{t, wal.History{Timeline: t}, t == 1}
}

// has tells whether recovery from a backup can take the way: whether it had ended when its timeline was left.
func (w way) has(b *backup.Summary) bool {
	left, ok := w.history.Until(b.Timeline)
	return ok && (left == 0 || b.StopLSN <= left)
}

// from returns the WAL on the way from a backup on. The segment in which a timeline is left is read from the next one,
// which begins with a copy.
func (w way) from(b *backup.Summary) []stretch {
	var all []stretch
	at := b.FirstSegment()
	for {
		fork, next, left := w.history.Leaves(at)
		if !left {
			return append(all, stretch{timeline: at.Timeline, first: at.Number, last: noEnd})
		}
		if at.Number < fork.Number {
			all = append(all, stretch{timeline: at.Timeline, first: at.Number, last: fork.Number - 1})
		}
		at = fork.On(next)
	}
}

// upTo returns the WAL on the way from a backup up to a segment.
func (w way) upTo(b *backup.Summary, last uint64) []stretch {
	var all []stretch
	for _, s := range w.from(b) {
		if s.first <= last {
			s.last = min(s.last, last)
			all = append(all, s)
		}
	}
	return all
}

// consistent tells whether all is held that makes a backup consistent, on a way that has it.
func (c *cluster) consistent(b *backup.Summary, w way) bool {
	if c.incomplete[b.ID] > 0 {
		return false
	}
	if c.coverage == nil {
		return true
	}
	last := b.LastSegment().Number
	for _, s := range w.upTo(b, last) {
		t := c.coverage.Timeline(s.timeline)
		if t == nil {
			return false
		}
		missing := firstMissing(t, s.first)
		inPart := missing == last && t.Partial != nil && t.Partial.Segment.Number == last && t.Partial.End >= b.StopLSN
		if missing <= s.last && !inPart {
			return false
		}
	}
	return true
}

// firstMissing returns the first segment from one on that is not held in full.
func firstMissing(t *wal.TimelineCoverage, from uint64) uint64 {
	for _, r := range t.Ranges {
		if r.First.Number <= from && from <= r.Last.Number {
			from = r.Last.Number + 1
		}
	}
	return from
}

// alive tells whether a timeline may have lived on after a moment: unless it is known that it did not, from its WAL and
// from backups.
func (c *cluster) alive(marks []*backup.Summary, t wal.Timeline, since time.Time) bool {
	for _, b := range marks {
		if b.Timeline == t && !b.StoppedAt.Before(since) {
			return true
		}
	}
	if c.coverage == nil {
		return true
	}
	held := c.coverage.Timeline(t)
	switch {
	case held == nil || len(held.Ranges) == 0 && held.Partial == nil:
		return false // what backups of it there are cannot be restored
	case held.Partial != nil:
		return true
	}
	last := held.Ranges[len(held.Ranges)-1]
	return !endedBefore(last, since) && c.writtenBefore(marks, t, since) <= last.Last.Number
}

// endedBefore tells whether a range is known to have no commit from a moment on.
func endedBefore(r wal.Range, since time.Time) bool {
	return !r.LastCommit.IsZero() && r.LastCommit.Before(since)
}

// writtenBefore returns the first segment of a timeline that may have been written to after a moment, as far as backups
// tell: what is before a backup's start was written before it began.
func (c *cluster) writtenBefore(marks []*backup.Summary, t wal.Timeline, since time.Time) uint64 {
	until := wal.LSN(0)
	for _, m := range marks {
		if !m.StartedAt.Before(since) {
			continue
		}
		switch left, ok := c.wayTo(m.Timeline).history.Until(t); {
		case !ok:
		case left == 0:
			until = max(until, m.StartLSN)
		default:
			until = max(until, left)
		}
	}
	return uint64(until) / uint64(c.size)
}
