package retention

import (
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// pinned is why a pinned backup is kept.
const pinned = "pinned"

// decide applies the rules to the backups of a cluster.
func (c *cluster) decide(p Policy, now time.Time) {
	c.least(now)
	for _, b := range c.backups {
		if b.Pinned {
			c.keep(b, "%s", pinned)
		}
		if p.keepsAll() {
			c.keep(b, "the policy has no rule")
		}
		if p.KeepWithin > 0 && !b.StoppedAt.Before(now.Add(-p.KeepWithin)) {
			c.keep(b, "within the last %s", p.KeepWithin)
		}
	}
	c.count(p.KeepLast, "of the last %[2]d", func(b *backup.Summary) string { return string(b.ID) })
	c.fulls(p)
	calendar := func(n int, kind string, period func(time.Time) string) {
		c.count(n, "of %[2]d "+kind+": %[3]s", func(b *backup.Summary) string { return period(p.Zone.in(b.StoppedAt)) })
	}
	calendar(p.KeepHourly, "hourly", hourOf)
	calendar(p.KeepDaily, "daily", dayOf)
	calendar(p.KeepWeekly, "weekly", weekOf)
	calendar(p.KeepMonthly, "monthly", monthOf)
	calendar(p.KeepYearly, "yearly", yearOf)
	if p.Window > 0 {
		c.window(p.Window, now.Add(-p.Window))
	}
}

func (c *cluster) keep(b *backup.Summary, format string, args ...any) {
	reason := fmt.Sprintf(format, args...)
	if !c.restorable[b.ID] {
		reason += " (does not count: " + c.lack(b) + ")"
	}
	c.reasons[b.ID] = append(c.reasons[b.ID], reason)
}

// least keeps what no policy may drop. Until one that can be restored is found, what cannot be is kept: its WAL may
// be found elsewhere. By a clock that was wrong a backup may be of the future, and must not stand before all that come.
func (c *cluster) least(now time.Time) {
	for _, b := range c.backups {
		c.keep(b, "the newest backup")
		if c.restorable[b.ID] && !b.StoppedAt.After(now) {
			break
		}
	}
	if len(c.ways) == 0 {
		return
	}
	newest := c.ways[len(c.ways)-1]
	for _, b := range c.backups {
		if !newest.has(b) {
			continue
		}
		c.keep(b, "the newest on the way to timeline %d, which is the newest", newest.timeline)
		if c.consistent(b, newest) && !b.StoppedAt.After(now) {
			break
		}
	}
}

// count keeps the newest restorable backup of each of the n latest groups that have one, and those after it in its group.
// Of the format, the second argument is n and the third the name of the group.
func (c *cluster) count(n int, format string, group func(*backup.Summary) string) {
	done := map[string]bool{}
	for _, b := range c.backups {
		if len(done) == n {
			return
		}
		if g := group(b); !done[g] {
			c.keep(b, "number %d "+format, len(done)+1, n, g)
			if c.restorable[b.ID] {
				done[g] = true
			}
		}
	}
}

// fulls keeps the newest full backups, and what came after them.
func (c *cluster) fulls(p Policy) {
	if p.KeepFull == 0 {
		return
	}
	since, what := c.newest(p.KeepFull, backup.Full), fmt.Sprintf("the last %d full ones", p.KeepFull)
	if since == nil {
		what = fmt.Sprintf("fewer than %d full ones", p.KeepFull)
	}
	var narrowed *backup.Summary // the oldest differential one that is kept; nil: all are
	if p.KeepDifferential > 0 {
		narrowed = c.newest(p.KeepDifferential, backup.Full, backup.Differential)
	}
	byID := map[backup.ID]*backup.Summary{}
	for _, b := range c.backups {
		byID[b.ID] = b
	}
	for _, b := range c.backups {
		if since != nil && older(b, since) < 0 {
			return
		}
		on := b
		for on != nil && on.Type == backup.Incremental {
			parent := byID[on.Parent]
			if parent != nil && older(parent, on) >= 0 {
				parent = nil // none can be its own ancestor
			}
			on = parent
		}
		switch {
		case b.Type == backup.Full:
			c.keep(b, "%s: one of them", what)
		case p.KeepDifferential == 0:
			c.keep(b, "%s: with them", what)
		case on == nil, since != nil && older(on, since) < 0: // what it was built on is gone, or going
		case narrowed == nil, on.Type == backup.Full, older(on, narrowed) >= 0:
			c.keep(b, "%s: with them, and with the last %d differential or full ones", what, p.KeepDifferential)
		}
	}
}

// newest returns the n-th newest restorable backup of certain types, or nil where there are not as many.
func (c *cluster) newest(n int, types ...backup.Type) *backup.Summary {
	for _, b := range c.backups {
		for _, t := range types {
			if b.Type == t && c.restorable[b.ID] {
				n--
			}
		}
		if n == 0 {
			return b
		}
	}
	return nil
}

// window keeps what leads to any moment since then.
func (c *cluster) window(d time.Duration, since time.Time) {
	for _, b := range c.backups {
		if !b.StoppedAt.Before(since) {
			c.keep(b, "within the window of %s", d)
		}
	}
	bases := map[backup.ID]wal.Timeline{}
	for _, w := range c.ways {
		if b := c.base(w, since, nil); b != nil && bases[b.ID] == 0 && c.alive(c.backups, w.timeline, since) {
			bases[b.ID] = w.timeline
			c.keep(b, "leads to the beginning of the window of %s on the way to timeline %d", d, w.timeline)
		}
	}
}

// base returns the newest backup on a way that ended before a moment and can be restored, or nil. Where kept is not nil,
// it is one of these.
func (c *cluster) base(w way, before time.Time, kept map[backup.ID][]string) *backup.Summary {
	for _, b := range c.backups {
		if b.StoppedAt.Before(before) && w.has(b) && c.consistent(b, w) && (kept == nil || len(kept[b.ID]) > 0) {
			return b
		}
	}
	return nil
}
