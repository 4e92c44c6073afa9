package restore

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// Window is a stretch of a cluster's life all of which can be recovered: by a position in it, or a time in it, with its
// timeline in [PlanOptions].
type Window struct {
	Timeline wal.Timeline `json:"timeline"` // that it leads to; it may begin on one before
	FromTime time.Time    `json:"from_time,omitzero"`
	// ToTime is the last moment that is known to be in it, to which a recovery by time has to stay before: that of its last
	// commit, since later there is none for PostgreSQL to stop at. Where the coverage has no times (see
	// [wal.Archive.Times]) it is the end of a backup.
	ToTime  time.Time `json:"to_time,omitzero"`
	FromLSN wal.LSN   `json:"from_lsn"`
	ToLSN   wal.LSN   `json:"to_lsn"` // behind the window
	Backup  backup.ID `json:"backup"` // that it begins with
}

// Windows tells what can be recovered, ascending by timeline and position. It is pure, and takes backups and coverage as
// [NewPlan] does. Where WAL is missing a window ends; the next begins with the end of the next backup.
func Windows(all []*backup.Summary, c wal.Coverage) []Window {
	p := &planner{backups: ofCluster(all, c), coverage: c, target: Latest()}
	timed := slices.ContainsFunc(c.Timelines, func(t wal.TimelineCoverage) bool {
		return slices.ContainsFunc(t.Ranges, func(r wal.Range) bool { return !r.LastCommit.IsZero() })
	})
	var windows []Window
	for _, t := range c.Timelines {
		h, ok := c.History(t.Timeline)
		if !ok {
			h = wal.History{Timeline: t.Timeline} // from its own backups on
		}
		for _, b := range p.backups {
			if w, ok := p.window(b, h); ok {
				windows = addWindow(windows, w, timed)
			}
		}
	}
	slices.SortFunc(windows, func(a, b Window) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.FromLSN, b.FromLSN))
	})
	return windows
}

// window is how far a backup leads on the way to a timeline, which it may not reach.
func (p *planner) window(b *backup.Summary, h wal.History) (w Window, ok bool) {
	if left, ok := h.Until(b.Timeline); !ok || left != 0 && left < b.StopLSN {
		return w, false
	}
	plan := &Plan{Backup: b, Target: p.target, Timeline: h.Timeline}
	_ = p.walk(plan, h) // that segments are missing further on ends the window
	if !plan.consistent() {
		return w, false
	}
	w = Window{
		Timeline: plan.WAL[len(plan.WAL)-1].Last.Timeline, Backup: b.ID, FromLSN: b.StopLSN, FromTime: b.StoppedAt, ToLSN: plan.End(),
		ToTime: p.lastCommit(plan),
	}
	if _, ok := p.coverage.History(w.Timeline); !ok && w.Timeline != b.Timeline {
		w.Timeline = h.Timeline // by whose history the way is known
	}
	if w.ToTime.Before(b.StoppedAt) {
		w.ToTime = b.StoppedAt
	}
	return w, true
}

// addWindow adds a window, unless there is one that it is a part of; parts of it are dropped. Unless there are times of
// commits, a later backup tells that the window goes on that long.
func addWindow(all []Window, w Window, timed bool) []Window {
	within := func(a, b Window) bool {
		return a.Timeline == b.Timeline && a.FromLSN >= b.FromLSN && a.ToLSN <= b.ToLSN
	}
	var kept []Window
	for _, other := range all {
		outer, inner := w, other
		switch {
		case within(w, other):
			outer, inner = other, w
		case !within(other, w):
			kept = append(kept, other)
			continue
		}
		if !timed && inner.ToLSN == outer.ToLSN && inner.ToTime.After(outer.ToTime) {
			outer.ToTime = inner.ToTime
		}
		w = outer
	}
	return append(kept, w)
}

// lastCommit is the time of the last commit that is known to be on a plan's way.
func (p *planner) lastCommit(plan *Plan) time.Time {
	for _, way := range slices.Backward(plan.WAL) {
		t := p.coverage.Timeline(way.Last.Timeline)
		if t == nil {
			continue
		}
		for _, r := range t.Ranges {
			// Of a range that goes on elsewhere, nobody knows when it was left.
			whole := r.Last.Number == way.Last.Number || plan.partial != nil && r.Last.Next() == plan.partial.Segment
			if whole && way.First.Number <= r.Last.Number && !r.LastCommit.IsZero() {
				return r.LastCommit
			}
		}
	}
	return time.Time{}
}
