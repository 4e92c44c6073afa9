package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// Policy says what to keep. A backup is kept when any rule wants it; the zero Policy has no rule and keeps everything.
type Policy struct {
	// KeepLast keeps that many of the newest backups of each cluster.
	KeepLast int `json:"keep_last,omitempty"`

	// Window keeps what it takes to recover to any moment of that duration before now: the backups that ended within
	// it, and the newest that ended before.
	Window time.Duration `json:"window,omitempty"`
}

// Decision is what a policy says of a catalogue.
type Decision struct {
	Verdicts []Verdict // in the order of the catalogue given
	Floors   []Floor   // ascending by cluster and timeline
}

// Verdict is the decision on one backup.
type Verdict struct {
	Backup  backup.ID
	Keep    bool
	Reasons []string // why it is kept, or why not
}

// Floor is the first segment that the kept backups of a timeline need. WAL before it leads nowhere any more. Timelines
// without a kept backup have no floor: they may be on the way from an older one.
type Floor struct {
	SystemID uint64
	Segment  wal.Segment
}

// Decide gives every backup its verdict. The newest backup of a cluster is always kept, and so are pinned ones. Backups
// are ordered by the time they ended, never by the number of their timeline. The arguments are left as they are.
func (p Policy) Decide(all []*backup.Summary, now time.Time) Decision {
	reasons := map[backup.ID][]string{}
	keep := func(b *backup.Summary, format string, args ...any) {
		reasons[b.ID] = append(reasons[b.ID], fmt.Sprintf(format, args...))
	}
	for _, cluster := range byCluster(all) {
		p.decideCluster(cluster, now, keep)
	}
	d := Decision{Verdicts: make([]Verdict, 0, len(all))}
	for _, b := range all {
		v := Verdict{Backup: b.ID, Keep: len(reasons[b.ID]) > 0, Reasons: reasons[b.ID]}
		if !v.Keep {
			v.Reasons = []string{"no rule keeps it"}
		}
		d.Verdicts = append(d.Verdicts, v)
	}
	d.Floors = floors(all, reasons)
	return d
}

// decideCluster applies the rules to the backups of one cluster, newest first.
func (p Policy) decideCluster(newest []*backup.Summary, now time.Time, keep func(*backup.Summary, string, ...any)) {
	since := now.Add(-p.Window)
	before := false // the newest from before the window has been seen
	for i, b := range newest {
		if i == 0 {
			keep(b, "the newest backup")
		}
		if b.Pinned {
			keep(b, "pinned")
		}
		if p.KeepLast <= 0 && p.Window <= 0 {
			keep(b, "the policy has no rule")
		}
		if i < p.KeepLast {
			keep(b, "number %d of the last %d", i+1, p.KeepLast)
		}
		switch {
		case p.Window <= 0:
		case !b.StoppedAt.Before(since):
			keep(b, "within the window of %s", p.Window)
		case !before:
			before = true
			keep(b, "leads to the beginning of the window of %s", p.Window)
		}
	}
}

// byCluster returns the backups of each cluster, newest first.
func byCluster(all []*backup.Summary) map[uint64][]*backup.Summary {
	clusters := map[uint64][]*backup.Summary{}
	for _, b := range all {
		clusters[b.SystemID] = append(clusters[b.SystemID], b)
	}
	for _, c := range clusters {
		slices.SortFunc(c, func(a, b *backup.Summary) int {
			return cmp.Or(b.StoppedAt.Compare(a.StoppedAt), cmp.Compare(b.ID, a.ID))
		})
	}
	return clusters
}

// floors finds the first segment that each timeline's kept backups need.
func floors(all []*backup.Summary, kept map[backup.ID][]string) []Floor {
	type line struct {
		system   uint64
		timeline wal.Timeline
	}
	first := map[line]wal.Segment{}
	for _, b := range all {
		if len(kept[b.ID]) == 0 {
			continue
		}
		l := line{b.SystemID, b.Timeline}
		if s, ok := first[l]; !ok || b.FirstSegment().Number < s.Number {
			first[l] = b.FirstSegment()
		}
	}
	out := make([]Floor, 0, len(first))
	for l, s := range first {
		out = append(out, Floor{SystemID: l.system, Segment: s})
	}
	slices.SortFunc(out, func(a, b Floor) int {
		return cmp.Or(cmp.Compare(a.SystemID, b.SystemID), cmp.Compare(a.Segment.Timeline, b.Segment.Timeline))
	})
	return out
}
