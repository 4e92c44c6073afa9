package restore

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// Window is a stretch of a cluster's life all of which can be recovered: by a target in it, with its timeline in
// [PlanOptions].
type Window struct {
	Timeline wal.Timeline `json:"timeline"` // that it ends on; it may begin on one before
	FromTime time.Time    `json:"from_time,omitzero"`
	// ToTime is the last moment that is known to be in it: a time before it can be recovered. It is that of the last
	// commit where the coverage has times (see [wal.Archive.Times]), else that of the end of a backup.
	ToTime  time.Time `json:"to_time,omitzero"`
	FromLSN wal.LSN   `json:"from_lsn"`
	ToLSN   wal.LSN   `json:"to_lsn"` // behind the window
	Backup  backup.ID `json:"backup"` // that it begins with
}

// Windows tells what can be recovered, ascending by timeline and position. It is pure, and takes backups and coverage as
// [NewPlan] does. Where WAL is missing a window ends; the next begins with the end of the next backup.
func Windows(all []*backup.Summary, c wal.Coverage) []Window {
	p := &planner{backups: ofCluster(all, c), coverage: c, target: Latest()}
	var windows []Window
	for _, t := range c.Timelines {
		h, ok := c.History(t.Timeline)
		if !ok {
			h = wal.History{Timeline: t.Timeline} // from its own backups on
		}
		for _, b := range p.backups {
			if w, ok := p.window(b, h); ok {
				windows = addWindow(windows, w)
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
	last := plan.WAL[len(plan.WAL)-1].Last
	w = Window{
		Timeline: last.Timeline, Backup: b.ID, FromLSN: b.StopLSN, FromTime: b.StoppedAt, ToLSN: plan.End(), ToTime: p.lastCommit(last),
	}
	if b.StoppedAt.After(w.ToTime) {
		w.ToTime = b.StoppedAt
	}
	return w, true
}

// addWindow adds a window, unless there is one that it is a part of; parts of it are dropped.
func addWindow(all []Window, w Window) []Window {
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
		if inner.ToLSN == outer.ToLSN && inner.ToTime.After(outer.ToTime) {
			outer.ToTime = inner.ToTime
		}
		w = outer
	}
	return append(kept, w)
}

// lastCommit is the time of the last commit that is known of the range which a segment is in, or follows.
func (p *planner) lastCommit(s wal.Segment) (last time.Time) {
	if t := p.coverage.Timeline(s.Timeline); t != nil {
		for _, r := range t.Ranges {
			if r.First.Number <= s.Number && s.Number <= r.Last.Number+1 {
				last = r.LastCommit
			}
		}
	}
	return last
}
