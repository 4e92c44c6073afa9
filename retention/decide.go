package retention

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// Decide gives every backup its verdict, and says what WAL to keep. It is pure, and the order of its arguments does not
// matter; they are left as they are. An error is a *[PolicyError], and then nothing is decided.
//
// Every cluster is decided by itself: all are its backups, and the archive whose System has their system identifier is its
// WAL. Give the coverage of every cluster that the repository has belonged to, with times (see [wal.Archive.Times]):
// without them, timelines that were left long ago may be kept as if they were alive. The ranges of a coverage may touch,
// where the times of each part are known. Where no coverage is of a cluster its backups count as restorable.
//
// Backups are ordered by the time they ended, then by ID, never by the number of their timeline. Kept are always, besides
// those that the rules want, pinned ones, the newest restorable one of each cluster, and the newest one on the way to
// its newest timeline, where recovery goes unless it is told otherwise.
func (p Policy) Decide(all []*backup.Summary, archives []wal.Coverage, now time.Time) (Decision, error) {
	return p.decide(all, archives, now, nil)
}

// decide is Decide where it is known of some backups that they lack content, and cannot be restored.
func (p Policy) decide(all []*backup.Summary, archives []wal.Coverage, now time.Time, incomplete map[backup.ID]int) (Decision, error) {
	d := Decision{Keep: []Verdict{}, Drop: []Verdict{}, Floors: []Floor{}, WAL: []Span{}, DropWAL: []Span{}}
	if err := p.Validate(); err != nil {
		return Decision{}, err
	}
	clusters := byCluster(all, archives)
	for _, id := range slices.Sorted(maps.Keys(clusters)) {
		c := clusters[id]
		c.incomplete = incomplete
		c.prepare()
		c.decide(p, now)
		c.span(p, now)
		d.addWAL(c)
	}
	for _, b := range slices.SortedFunc(slices.Values(all), older) {
		c := clusters[b.SystemID]
		if reasons := c.reasons[b.ID]; len(reasons) > 0 {
			d.Keep = append(d.Keep, Verdict{b.ID, reasons})
			continue
		}
		reason := "no rule keeps it"
		if !c.restorable[b.ID] {
			reason += ", and it cannot be restored: " + c.lack(b)
		}
		d.Drop = append(d.Drop, Verdict{b.ID, []string{reason}})
	}
	return d, nil
}

// cluster is one system identifier's share of the repository.
type cluster struct {
	id         uint64
	backups    []*backup.Summary // newest first
	coverage   *wal.Coverage     // nil: it is not known what is archived
	size       uint32            // of a segment
	ways       []way             // ascending by timeline
	incomplete map[backup.ID]int // packs that are missing
	restorable map[backup.ID]bool
	reasons    map[backup.ID][]string // of what is kept
	wal        []stretch              // that is kept
}

func byCluster(all []*backup.Summary, archives []wal.Coverage) map[uint64]*cluster {
	clusters := map[uint64]*cluster{}
	of := func(id uint64, size uint32) *cluster {
		c := clusters[id]
		if c == nil {
			c = &cluster{id: id, size: size, restorable: map[backup.ID]bool{}, reasons: map[backup.ID][]string{}}
			clusters[id] = c
		}
		return c
	}
	for _, a := range archives {
		if a.System.ID != 0 { // 0: nothing was pushed yet
			of(a.System.ID, a.System.SegmentSize).coverage = &a
		}
	}
	for _, b := range all {
		c := of(b.SystemID, b.WALSegmentSize)
		c.backups = append(c.backups, b)
	}
	for _, c := range clusters {
		slices.SortFunc(c.backups, func(a, b *backup.Summary) int { return older(b, a) })
	}
	return clusters
}

// lack says why a backup cannot be restored.
func (c *cluster) lack(b *backup.Summary) string {
	if n := c.incomplete[b.ID]; n > 0 {
		return fmt.Sprintf("%d packs are missing", n)
	}
	return "its WAL is missing"
}

// older orders backups by time, then by identity.
func older(a, b *backup.Summary) int {
	return cmp.Or(a.StoppedAt.Compare(b.StoppedAt), cmp.Compare(a.ID, b.ID))
}

// prepare finds the timelines, how they were come to, and which backups can be restored.
func (c *cluster) prepare() {
	timelines := map[wal.Timeline]bool{}
	for _, b := range c.backups {
		timelines[b.Timeline] = true
	}
	if c.coverage != nil {
		for _, t := range c.coverage.Timelines {
			timelines[t.Timeline] = true
		}
	}
	for _, t := range slices.Sorted(maps.Keys(timelines)) {
		c.ways = append(c.ways, c.wayTo(t))
	}
	for _, b := range c.backups {
		c.restorable[b.ID] = slices.ContainsFunc(c.ways, func(w way) bool { return w.has(b) && c.consistent(b, w) })
	}
}
