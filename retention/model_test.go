package retention_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

const mib = wal.MinSegmentSize

// life is a timeline as it was: a segment takes six hours.
type life struct {
	history    wal.History
	begun, end time.Time
	from       wal.LSN
}

func (l life) at(t time.Time) wal.LSN {
	return l.from + wal.LSN(t.Sub(l.begun)/time.Second)*mib/(6*3600)
}

func (l life) when(at wal.LSN) time.Time {
	if at > l.at(l.end) {
		return l.end
	}
	return l.begun.Add(time.Duration((at-l.from)*6*3600/mib) * time.Second)
}

// world is a repository as it might be.
type world struct {
	rng      *rand.Rand
	lives    map[uint64]map[wal.Timeline]life
	backups  []*backup.Summary
	archives []wal.Coverage
	policy   retention.Policy
	now      time.Time
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 6)), lives: map[uint64]map[wal.Timeline]life{}} //nolint:gosec // a fixed seed
	for system := uint64(1); system <= 1+w.rng.Uint64N(2); system++ {
		w.cluster(system)
	}
	w.now = w.now.Add(w.hours(30 * 24))
	w.choosePolicy()
	w.rng.Shuffle(len(w.backups), func(i, j int) { w.backups[i], w.backups[j] = w.backups[j], w.backups[i] })
	return w
}

func (w *world) rarely(n int) bool { return w.rng.IntN(n) == 0 }

func (w *world) hours(n int) time.Duration { return time.Duration(w.rng.IntN(n)) * time.Hour }

// cluster lives through up to five timelines, which fork where the parent ended or before; a parent may go on.
func (w *world) cluster(system uint64) {
	lives := map[wal.Timeline]life{}
	clock := time.Date(2024, 12, 20, w.rng.IntN(24), 0, 0, 0, time.UTC)
	for t := wal.Timeline(1); t <= wal.Timeline(1+w.rng.IntN(5)); t++ {
		l := life{history: wal.History{Timeline: t}, begun: clock, from: mib}
		if t > 1 {
			parent := lives[wal.Timeline(1+w.rng.IntN(int(t)-1))]
			fork := parent.at(parent.end)
			if parent.end.After(clock) {
				fork = parent.at(clock)
			}
			if w.rarely(2) {
				fork -= wal.LSN(w.rng.Uint64N(uint64(fork-parent.from) + 1))
			}
			l.from = fork
			l.history.Forks = append(slices.Clone(parent.history.Forks), wal.Fork{Timeline: parent.history.Timeline, At: fork})
		}
		clock = clock.Add(w.hours(20*24) + time.Hour)
		l.end = clock
		if w.rarely(3) {
			l.end = l.end.Add(w.hours(100))
		}
		lives[t] = l
		if l.end.After(w.now) {
			w.now = l.end
		}
	}
	w.lives[system] = lives
	for _, t := range slices.Sorted(maps.Keys(lives)) {
		w.takeBackups(system, lives[t])
	}
	if !w.rarely(20) {
		w.archive(system)
	}
}

func (w *world) takeBackups(system uint64, l life) {
	full, last := backup.ID(""), backup.ID("")
	every := 6 + w.rng.IntN(60)
	number := 0
	for at := l.begun.Add(w.hours(every)); at.Before(l.end); {
		stop := at.Add(time.Duration(w.rng.IntN(600)) * time.Minute)
		if stop.After(l.end) {
			break
		}
		b := &backup.Summary{
			ID: backup.ID(fmt.Sprintf("%d-%d-%03d", system, l.history.Timeline, number)), Kind: "base", Type: backup.Full, SystemID: system,
			Timeline: l.history.Timeline, StartLSN: l.at(at), StopLSN: l.at(stop) + 1, StartedAt: at, StoppedAt: stop,
			WALSegmentSize: mib, Pinned: w.rarely(30),
		}
		switch k := w.rng.IntN(5); {
		case full == "" || k == 0:
			full = b.ID
		case k == 1:
			b.Type, b.Parent = backup.Differential, full
		default:
			b.Type, b.Parent = backup.Incremental, last
		}
		last = b.ID
		number++
		at = stop.Add(w.hours(every) + time.Minute)
		if !w.rarely(20) { // else it was deleted
			w.backups = append(w.backups, b)
		}
	}
}

// archive holds most of it.
func (w *world) archive(system uint64) {
	c := wal.Coverage{System: wal.System{ID: system, SegmentSize: mib}}
	timed, holes := !w.rarely(3), w.rarely(2)
	for _, t := range slices.Sorted(maps.Keys(w.lives[system])) {
		l := w.lives[system][t]
		tc := wal.TimelineCoverage{Timeline: t}
		if t > 1 && !w.rarely(15) {
			tc.History = &l.history
		}
		last := wal.SegmentAt(t, l.at(l.end), mib)
		for s := wal.SegmentAt(t, l.from, mib); s.Number < last.Number; s = s.Next() {
			if holes && w.rarely(25) {
				continue
			}
			if n := len(tc.Ranges); n > 0 && tc.Ranges[n-1].Last.Next() == s {
				tc.Ranges[n-1].Last = s
			} else {
				tc.Ranges = append(tc.Ranges, wal.Range{First: s, Last: s})
			}
		}
		for i := range tc.Ranges {
			if timed && !w.rarely(10) {
				tc.Ranges[i].LastCommit = l.when(tc.Ranges[i].Last.End())
			}
		}
		if w.rarely(3) {
			tc.Partial = &wal.Partial{Segment: last, End: l.at(l.end)}
		}
		if tc.History != nil || len(tc.Ranges) > 0 || tc.Partial != nil {
			c.Timelines = append(c.Timelines, tc)
		}
	}
	w.archives = append(w.archives, c)
}

func (w *world) choosePolicy() {
	p := &w.policy
	some := func(field *int, n int) {
		if w.rarely(4) {
			*field = w.rng.IntN(n)
		}
	}
	some(&p.KeepLast, 6)
	some(&p.KeepFull, 4)
	some(&p.KeepHourly, 9)
	some(&p.KeepDaily, 9)
	some(&p.KeepWeekly, 5)
	some(&p.KeepMonthly, 4)
	some(&p.KeepYearly, 3)
	if p.KeepFull > 0 && w.rarely(2) {
		p.KeepDifferential = w.rng.IntN(5)
	}
	if w.rarely(4) {
		p.KeepWithin = w.hours(20 * 24)
	}
	if w.rarely(2) {
		p.Window = w.hours(60 * 24)
	}
	if w.rarely(3) {
		p.KeepWAL = p.Window + w.hours(20*24)
	}
}

// of returns a cluster's backups, newest first, and what is known of its archive.
func (w *world) of(system uint64, all []*backup.Summary, archives []wal.Coverage) (ours []*backup.Summary, c *wal.Coverage) {
	for _, b := range all {
		if b.SystemID == system {
			ours = append(ours, b)
		}
	}
	slices.SortFunc(ours, func(a, b *backup.Summary) int {
		return cmp.Or(b.StoppedAt.Compare(a.StoppedAt), strings.Compare(string(b.ID), string(a.ID)))
	})
	for i := range archives {
		if archives[i].System.ID == system {
			c = &archives[i]
		}
	}
	return ours, c
}

// ends are the timelines that a cluster's backups might lead to.
func ends(backups []*backup.Summary, c *wal.Coverage) []wal.Timeline {
	found := map[wal.Timeline]bool{}
	for _, b := range backups {
		found[b.Timeline] = true
	}
	if c != nil {
		for _, t := range c.Timelines {
			found[t.Timeline] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// restores asks restore's planner whether a backup becomes consistent on the way to a timeline.
func restores(b *backup.Summary, c *wal.Coverage, end wal.Timeline) bool {
	if c == nil {
		return b.Timeline == end
	}
	_, err := restore.NewPlan([]*backup.Summary{b}, *c, restore.Immediate(), &restore.PlanOptions{Timeline: end})
	return err == nil
}

// wanted says what a policy wants kept of a cluster: what it must keep, and what it may.
func (w *world) wanted(ours []*backup.Summary, c *wal.Coverage) (must, may map[backup.ID]bool) {
	must, may = map[backup.ID]bool{}, map[backup.ID]bool{}
	p, all := w.policy, ends(ours, c)
	sound := map[backup.ID]bool{}
	for _, b := range ours {
		sound[b.ID] = slices.ContainsFunc(all, func(t wal.Timeline) bool { return restores(b, c, t) })
	}
	// newer counts the groups of the restorable backups before the i-th, and tells whether its own is among them.
	newer := func(i int, group func(*backup.Summary) int) (n int, own bool) {
		groups := map[int]bool{}
		for _, b := range ours[:i] {
			if sound[b.ID] {
				groups[group(b)] = true
			}
		}
		return len(groups), groups[group(ours[i])]
	}
	unix := func(b *backup.Summary) int { return int(b.StoppedAt.Unix()) }
	calendars := []struct {
		n     int
		group func(*backup.Summary) int
	}{
		{p.KeepHourly, func(b *backup.Summary) int { return unix(b) / 3600 }},
		{p.KeepDaily, func(b *backup.Summary) int { return unix(b) / 86400 }},
		{p.KeepWeekly, func(b *backup.Summary) int { return (unix(b)/86400 + 3) / 7 }}, // 1970 began with a Thursday
		{p.KeepMonthly, func(b *backup.Summary) int { return b.StoppedAt.Year()*12 + int(b.StoppedAt.Month()) }},
		{p.KeepYearly, func(b *backup.Summary) int { return b.StoppedAt.Year() }},
	}
	rank := func(i int, types ...backup.Type) (n int) { // restorable ones of certain types up to and with the i-th
		for _, b := range ours[:i+1] {
			if sound[b.ID] && slices.Contains(types, b.Type) {
				n++
			}
		}
		return n
	}
	last := len(ours) - 1
	for i, b := range ours {
		before, _ := newer(i, func(b *backup.Summary) int { return slices.Index(ours, b) })
		keep := b.Pinned || before == 0 || before < p.KeepLast
		keep = keep || p.KeepWithin > 0 && w.now.Sub(b.StoppedAt) <= p.KeepWithin || p.Window > 0 && w.now.Sub(b.StoppedAt) <= p.Window
		rules := p.KeepLast + p.KeepFull
		for _, calendar := range calendars {
			n, own := newer(i, calendar.group)
			keep = keep || !own && n < calendar.n
			rules += calendar.n
		}
		keep = keep || rules == 0 && p.KeepWithin == 0 && p.Window == 0
		onFull := func(k int) bool { // whether the k-th is not older than the oldest full one that is kept
			return rank(last, backup.Full) < p.KeepFull || k == 0 || rank(k-1, backup.Full) < p.KeepFull
		}
		if p.KeepFull > 0 && onFull(i) {
			k := i
			for k >= 0 && ours[k].Type == backup.Incremental {
				k = slices.IndexFunc(ours, func(parent *backup.Summary) bool { return parent.ID == ours[k].Parent })
			}
			switch {
			case p.KeepDifferential == 0 || b.Type == backup.Full:
				keep = true
			case k < 0, !onFull(k):
			case ours[k].Type == backup.Full, k == 0, rank(k-1, backup.Full, backup.Differential) < p.KeepDifferential:
				keep = true
			}
		}
		if keep {
			must[b.ID], may[b.ID] = true, true
		}
	}
	for _, t := range all {
		led := false
		for _, b := range ours {
			if way := w.leads(b, c, t); t == all[len(all)-1] && way && !led {
				must[b.ID], may[b.ID] = true, true
			}
			led = led || restores(b, c, t)
		}
		for _, b := range ours {
			if p.Window > 0 && w.now.Sub(b.StoppedAt) > p.Window && restores(b, c, t) {
				may[b.ID] = true
				break
			}
		}
	}
	return must, may
}

// leads tells whether a backup is on the way to a timeline, as far as histories tell.
func (w *world) leads(b *backup.Summary, c *wal.Coverage, end wal.Timeline) bool {
	if b.Timeline == end {
		return true
	}
	if c == nil || c.Timeline(end) == nil || c.Timeline(end).History == nil {
		return false
	}
	left, ok := w.lives[b.SystemID][end].history.Until(b.Timeline)
	return ok && left >= b.StopLSN
}

// reads tells whether recovery from a backup to a timeline reads a segment.
func (w *world) reads(b *backup.Summary, end wal.Timeline, s wal.Segment) bool {
	t := b.Timeline
	if t != end {
		for _, f := range w.lives[b.SystemID][end].history.Forks {
			if f.Timeline >= b.Timeline && s.Number >= uint64(f.At)/mib {
				t = max(t, w.lives[b.SystemID][end].history.At(f.At))
			}
		}
	}
	return s.Timeline == t && s.Number >= uint64(b.StartLSN)/mib
}

// without returns what is there once that is dropped.
func without(all []*backup.Summary, drop []retention.Verdict, archives []wal.Coverage, gone []retention.Span) ([]*backup.Summary, []wal.Coverage) {
	var backups []*backup.Summary
	for _, b := range all {
		if !slices.ContainsFunc(drop, func(v retention.Verdict) bool { return v.Backup == b.ID }) {
			backups = append(backups, b)
		}
	}
	var left []wal.Coverage
	for _, c := range archives {
		had := c.Timelines
		c.Timelines = nil
		dropped := func(s wal.Segment) bool {
			return slices.ContainsFunc(gone, func(g retention.Span) bool { return g.Has(c.System.ID, s) })
		}
		for _, tc := range had {
			ranges := tc.Ranges
			tc.Ranges = nil
			for _, r := range ranges {
				fresh := true
				for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
					switch {
					case dropped(s):
						fresh = true
						continue
					case fresh:
						tc.Ranges = append(tc.Ranges, wal.Range{First: s})
					}
					fresh = false
					tc.Ranges[len(tc.Ranges)-1].Last = s
					if s == r.Last {
						tc.Ranges[len(tc.Ranges)-1].LastCommit = r.LastCommit
					}
				}
			}
			if tc.Partial != nil && dropped(tc.Partial.Segment) {
				tc.Partial = nil
			}
			if tc.History != nil || len(tc.Ranges) > 0 || tc.Partial != nil {
				c.Timelines = append(c.Timelines, tc)
			}
		}
		left = append(left, c)
	}
	return backups, left
}

func ids(verdicts []retention.Verdict) (all []backup.ID) {
	for _, v := range verdicts {
		all = append(all, v.Backup)
	}
	return all
}

var soak = flag.Bool("soak", false, "decide on many more repositories")

// TestDecideAgainstAModel: of thousands of repositories, what is kept is what the policy wants, everything that it
// promises stays reachable, as restore's planner says, and deciding again, whatever was dropped meanwhile, changes nothing.
func TestDecideAgainstAModel(t *testing.T) {
	t.Parallel()
	worlds := uint64(1000)
	if *soak {
		worlds = 20_000
	}
	var keeps, drops, instants, gone, short uint64
	for seed := range worlds {
		w := newWorld(seed)
		what := fmt.Sprintf("world %d, %+v", seed, w.policy)
		d, err := w.policy.Decide(w.backups, w.archives, w.now)
		require.NoError(t, err, what)
		require.Len(t, w.backups, len(d.Keep)+len(d.Drop), what)
		keeps, drops, gone = keeps+uint64(len(d.Keep)), drops+uint64(len(d.Drop)), gone+uint64(len(d.DropWAL))
		for _, v := range slices.Concat(d.Keep, d.Drop) {
			require.NotEmpty(t, v.Reasons, what)
		}
		keep := map[backup.ID]bool{}
		for _, v := range d.Keep {
			keep[v.Backup] = true
		}
		kept, left := without(w.backups, d.Drop, w.archives, d.DropWAL)
		for system := range w.lives {
			ours, c := w.of(system, w.backups, w.archives)
			oursKept, cLeft := w.of(system, kept, left)
			must, may := w.wanted(ours, c)
			for _, b := range ours {
				require.False(t, must[b.ID] && !keep[b.ID], "%s: %s is wanted, and dropped", what, b.ID)
				require.False(t, keep[b.ID] && !may[b.ID], "%s: %s is kept, and nothing wants it", what, b.ID)
			}
			if c == nil {
				continue
			}
			for _, b := range oursKept {
				for _, end := range ends(ours, c) {
					require.Equal(t, restores(b, c, end), restores(b, cLeft, end), "%s: restore of %s to timeline %d", what, b.ID, end)
				}
			}
			if w.policy.KeepWAL == 0 {
				w.requireExactWAL(t, what, d, oursKept, ours, c)
			} else if len(d.DropWAL) > 0 {
				short++
			}
			if before, err := restore.NewPlan(ours, *c, restore.Latest(), nil); err == nil {
				after, err := restore.NewPlan(oursKept, *cLeft, restore.Latest(), nil)
				require.NoError(t, err, what)
				require.Equal(t, before.End(), after.End(), what)
			}
			for range 30 {
				instants += w.requireReachable(t, what, system, ours, oursKept, c, cLeft)
			}
		}
		w.requireSettled(t, what, d)
	}
	require.Greater(t, keeps, worlds)
	require.Greater(t, drops, worlds)
	require.Greater(t, instants, worlds)
	require.Greater(t, gone, worlds)
	require.Greater(t, short, worlds/10)
}

// requireExactWAL: where WAL is kept as long as backups, a segment is kept just when a recovery may read it.
func (w *world) requireExactWAL(t *testing.T, what string, d retention.Decision, kept, ours []*backup.Summary, c *wal.Coverage) {
	all := ends(ours, c)
	led := slices.ContainsFunc(kept, func(b *backup.Summary) bool { return w.leads(b, c, all[len(all)-1]) })
	for _, tc := range c.Timelines {
		unknown := tc.Timeline > 1 && tc.History == nil
		var segments []wal.Segment
		for _, r := range tc.Ranges {
			for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
				segments = append(segments, s)
			}
		}
		if tc.Partial != nil {
			segments = append(segments, tc.Partial.Segment)
		}
		for _, s := range segments {
			needed := len(ours) == 0
			for _, b := range kept {
				for _, end := range all {
					needed = needed || w.leads(b, c, end) && w.reads(b, end, s)
				}
				needed = needed || unknown && b.Timeline < s.Timeline && uint64(b.StartLSN)/mib <= s.Number
			}
			if s.Timeline == all[len(all)-1] && !led && (!unknown || len(kept) == 0) {
				needed = true
			}
			has := func(spans []retention.Span) bool {
				return slices.ContainsFunc(spans, func(p retention.Span) bool { return p.Has(c.System.ID, s) })
			}
			require.Equal(t, needed, has(d.WAL), "%s: %s", what, s)
			require.Equal(t, !needed, has(d.DropWAL), "%s: %s", what, s)
		}
	}
}

// requireReachable: a moment that the window promises, and one that the WAL of kept backups leads to, can be recovered as
// before. It returns 1 where the moment was one.
func (w *world) requireReachable(t *testing.T, what string, system uint64, ours, kept []*backup.Summary, c, left *wal.Coverage) uint64 {
	back := w.policy.Window
	if w.policy.KeepWAL > 0 && w.rarely(2) {
		ours, back = kept, w.policy.KeepWAL
	}
	if back == 0 {
		return 0
	}
	at := w.now.Add(-time.Duration(w.rng.Int64N(int64(back) + 1)))
	end := wal.Timeline(1 + w.rng.IntN(len(w.lives[system])))
	if at.After(w.lives[system][end].end) {
		return 0 // nobody lived there any more
	}
	before, err := restore.NewPlan(ours, *c, restore.AtTime(at), &restore.PlanOptions{Timeline: end})
	if err != nil {
		return 0
	}
	if tc := c.Timeline(end); len(before.WAL) == 0 || tc == nil || len(tc.Ranges) == 0 && tc.Partial == nil || at.After(w.heldUntil(system, before)) {
		return 0 // the archive does not go as far
	}
	after, err := restore.NewPlan(kept, *left, restore.AtTime(at), &restore.PlanOptions{Timeline: end})
	require.NoError(t, err, "%s: %s on timeline %d", what, at, end)
	require.Equal(t, before.Backup.ID, after.Backup.ID, what)
	require.Equal(t, before.WAL, after.WAL, what)
	return 1
}

// heldUntil is the moment up to which a plan's WAL goes.
func (w *world) heldUntil(system uint64, p *restore.Plan) time.Time {
	return w.lives[system][p.WAL[len(p.WAL)-1].Last.Timeline].when(p.End())
}

// requireSettled: the order of what is given does not matter, it stays as it is, and whatever of the decision was carried
// out before it was stopped, deciding again decides the same.
func (w *world) requireSettled(t *testing.T, what string, d retention.Decision) {
	decide := func(all []*backup.Summary, archives []wal.Coverage) retention.Decision {
		d, err := w.policy.Decide(all, archives, w.now)
		require.NoError(t, err, what)
		return d
	}
	all, archives := slices.Clone(w.backups), slices.Clone(w.archives)
	w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.Reverse(archives)
	require.Equal(t, d, decide(all, archives), what)

	some := d.Drop[:w.rng.IntN(len(d.Drop)+1)]
	all, archives = without(w.backups, some, w.archives, nil)
	again := decide(all, archives)
	require.Equal(t, ids(d.Keep), ids(again.Keep), "%s: stopped after %d backups", what, len(some))
	require.Equal(t, ids(d.Drop[len(some):]), ids(again.Drop), what)
	require.Equal(t, d.DropWAL, again.DropWAL, what)

	gone := d.DropWAL[:w.rng.IntN(len(d.DropWAL)+1)]
	all, archives = without(w.backups, d.Drop, w.archives, gone)
	again = decide(all, archives)
	require.Equal(t, ids(d.Keep), ids(again.Keep), what)
	require.Empty(t, again.Drop, what)
	require.Equal(t, d.DropWAL[len(gone):], again.DropWAL, what)

	all, archives = without(w.backups, d.Drop, w.archives, d.DropWAL)
	again = decide(all, archives)
	require.Equal(t, ids(d.Keep), ids(again.Keep), what)
	require.Empty(t, again.Drop, what)
	require.Empty(t, again.DropWAL, what)
}
