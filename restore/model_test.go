package restore_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// world is a cluster as it might have been: timelines with records, backups of them, and an archive that lacks some.
type world struct {
	rng      *rand.Rand
	begun    map[wal.Timeline]wal.History
	records  map[wal.Timeline][]wal.Event // of the timeline itself
	end      map[wal.Timeline]wal.LSN
	backups  []*backup.Summary
	coverage wal.Coverage
	clock    time.Time
}

// newWorld makes one with up to four timelines.
func newWorld(seed uint64) *world {
	w := &world{
		rng:   rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // a fixed seed
		begun: map[wal.Timeline]wal.History{1: {Timeline: 1}}, records: map[wal.Timeline][]wal.Event{}, end: map[wal.Timeline]wal.LSN{1: at(1, 40)},
		clock: minute(0), coverage: wal.Coverage{System: wal.System{ID: 1, SegmentSize: segSize}},
	}
	w.live(1)
	for t := wal.Timeline(2); t <= wal.Timeline(1+w.rng.IntN(4)); t++ {
		parent := wal.Timeline(1 + w.rng.IntN(int(t-1)))
		h := wal.History{Timeline: t, Forks: slices.Clone(w.begun[parent].Forks)}
		from := at(1, 40)
		if n := len(h.Forks); n > 0 {
			from = h.Forks[n-1].At
		}
		fork := from + wal.LSN(w.rng.Uint64N(uint64(w.end[parent]-from)+1))
		h.Forks = append(h.Forks, wal.Fork{Timeline: parent, At: fork})
		w.begun[t], w.end[t] = h, fork
		w.live(t)
	}
	w.archive()
	return w
}

// live has a timeline go on: records, and backups among them. XIDs go on from where the timeline began.
func (w *world) live(t wal.Timeline) {
	started, began := wal.LSN(0), w.clock // of a backup
	xid := uint32(700 + uint64(w.end[t])>>20)
	for range 5 + w.rng.IntN(40) {
		w.clock = w.clock.Add(time.Duration(1+w.rng.IntN(50)) * time.Second)
		w.end[t] += wal.LSN(64 + w.rng.IntN(segSize/6))
		e := wal.Event{Timeline: t, LSN: w.end[t], End: w.end[t] + 56, Time: w.clock.Add(time.Duration(w.rng.IntN(61)-30) * time.Second)}
		switch kind := w.rng.IntN(10); {
		case kind < 5:
			xid++
			e.Kind, e.XID = wal.EventCommit, xid
		case kind < 6:
			xid++
			e.Kind, e.XID = wal.EventAbort, xid
		case kind < 7:
			e.Kind, e.Name = wal.EventRestorePoint, string(rune('a'+w.rng.IntN(4)))
		case kind < 8:
			e.Kind = wal.EventCheckpoint
		default:
			if started == 0 {
				started, began = w.end[t], w.clock
				continue
			}
			w.backup(t, started, began)
			started = 0
			continue
		}
		if e.LSN/segSize != (e.End-1)/segSize {
			continue // it would cross into the next segment
		}
		w.records[t] = append(w.records[t], e)
		w.end[t] = e.End
	}
}

func (w *world) backup(t wal.Timeline, start wal.LSN, began time.Time) {
	w.clock = w.clock.Add(time.Second)
	stop := w.end[t] + 100
	w.end[t] = stop
	w.backups = append(w.backups, &backup.Summary{
		ID: backup.ID(fmt.Sprintf("b%03d", len(w.backups))), Kind: "base", Type: backup.Full, SystemID: 1, Timeline: t, StartLSN: start,
		StopLSN: stop, StartedAt: began, StoppedAt: w.clock, WALSegmentSize: segSize,
	})
}

// archive keeps most segments and histories.
func (w *world) archive() {
	for _, t := range slices.Sorted(maps.Keys(w.begun)) {
		tc := wal.TimelineCoverage{Timeline: t}
		if h := w.begun[t]; t > 1 && w.rng.IntN(15) > 0 {
			tc.History = &h
		}
		first, last := at(1, 0), w.end[t]
		if h := w.begun[t]; len(h.Forks) > 0 {
			first = h.Forks[len(h.Forks)-1].At
		}
		for n := uint64(first) / segSize; n <= uint64(last)/segSize; n++ {
			s := wal.Segment{Timeline: t, Number: n, Size: segSize}
			if w.rng.IntN(25) == 0 {
				continue
			}
			if k := len(tc.Ranges); k > 0 && tc.Ranges[k-1].Last.Next() == s {
				tc.Ranges[k-1].Last = s
			} else {
				tc.Ranges = append(tc.Ranges, wal.Range{First: s, Last: s})
			}
		}
		if tc.History != nil || len(tc.Ranges) > 0 {
			w.coverage.Timelines = append(w.coverage.Timelines, tc)
		}
	}
}

// file has the records that a segment's file has: at a fork, those of the timelines before as well.
func (w *world) file(s wal.Segment) []wal.Event {
	var all []wal.Event
	h := w.begun[s.Timeline]
	for t, until := range w.path(h) {
		for _, e := range w.records[t] {
			if (until == 0 || e.LSN < until) && uint64(e.LSN)/segSize == s.Number {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b wal.Event) int { return cmp.Compare(a.LSN, b.LSN) })
	return all
}

func (w *world) path(h wal.History) map[wal.Timeline]wal.LSN {
	until := map[wal.Timeline]wal.LSN{h.Timeline: 0}
	for _, f := range h.Forks {
		until[f.Timeline] = f.At
	}
	return until
}

func (w *world) read(way []wal.Range) []wal.Event {
	var all []wal.Event
	for _, r := range way {
		for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
			all = append(all, w.file(s)...)
		}
	}
	return all
}

// Replay implements restore.Log as replayOf of package wal's tests does.
func (w *world) Replay(way []wal.Range, from wal.LSN, u wal.Until) (*wal.Replayed, error) {
	r := &wal.Replayed{To: from, Reached: u == wal.Until{}}
	stopped := false
	for _, e := range w.read(way) {
		ends := e.Kind == wal.EventCommit || e.Kind == wal.EventAbort
		switch {
		case e.LSN < from:
			continue
		case stopped:
			if e.Kind == wal.EventCommit && r.Next == nil {
				r.Next = &e
			}
			continue
		}
		hit := ends && u.XID != 0 && e.XID == u.XID || u.LSN != 0 && e.LSN >= u.LSN
		passed := ends && !u.Time.IsZero() && (e.Time.After(u.Time) || u.Exclusive && e.Time.Equal(u.Time))
		if passed || hit && u.Exclusive {
			stopped, r.Reached, r.To, r.Read = true, true, e.LSN, e.End
			if e.Kind == wal.EventCommit {
				r.Next = &e
			}
			continue
		}
		if e.Kind == wal.EventCommit {
			r.Last = &e
		}
		r.To, r.Read = e.End, e.End
		if hit || u.Name != "" && e.Name == u.Name || u.Consistent != 0 && e.End >= u.Consistent {
			stopped, r.Reached = true, true
		}
	}
	return r, nil
}

// Matches implements restore.Log.
func (w *world) Matches(way []wal.Range, u wal.Until) ([]wal.Event, error) {
	var all []wal.Event
	for _, e := range w.read(way) {
		if u.XID != 0 && e.XID == u.XID || u.Name != "" && e.Name == u.Name {
			all = append(all, e)
		}
	}
	return all, nil
}

// way is the WAL that a recovery from a backup to a timeline finds, up to the first segment that is missing; ok is false
// where the backup is not on the way there.
func (w *world) way(b *backup.Summary, end wal.Timeline) (way []wal.Range, ok bool) {
	h := wal.History{Timeline: end}
	if end != b.Timeline {
		if h, ok = w.coverage.History(end); !ok {
			return nil, false
		}
	}
	until := w.path(h)
	left, ok := until[b.Timeline]
	if !ok || left != 0 && left < b.StopLSN {
		return nil, false
	}
	for n := uint64(b.StartLSN) / segSize; ; n++ {
		// The file of the last timeline that has the segment, as PostgreSQL looks for it.
		t := b.Timeline
		for _, f := range h.Forks {
			if f.At != 0 && uint64(f.At)/segSize <= n && f.Timeline >= b.Timeline {
				t = h.At(f.At)
			}
		}
		s := wal.Segment{Timeline: t, Number: n, Size: segSize}
		if !w.coverage.Holds(s) {
			return way, true
		}
		way = append(way, wal.Range{First: s, Last: s})
	}
}

// recovers tells what recovery from a backup comes to, or nil where it does not get to the target.
func (w *world) recovers(b *backup.Summary, way []wal.Range, target restore.Target) *wal.Replayed {
	if len(way) == 0 || way[len(way)-1].Last.End() < b.StopLSN {
		return nil
	}
	u := wal.Until{Exclusive: target.Exclusive, Time: target.Time, LSN: target.LSN, XID: uint32(target.XID), Name: target.Name}
	r, _ := w.Replay(way, b.StartLSN, u)
	if !r.Reached || target.Kind != restore.KindLatest && r.To < b.StopLSN {
		return nil
	}
	return r
}

// target is one of any kind, most often one that means something.
func (w *world) target() restore.Target {
	var all []wal.Event
	for _, t := range slices.Sorted(maps.Keys(w.records)) {
		all = append(all, w.records[t]...)
	}
	if len(all) == 0 {
		return restore.Latest()
	}
	e := all[w.rng.IntN(len(all))]
	var target restore.Target
	switch w.rng.IntN(5) {
	case 0:
		target = restore.AtTime(e.Time.Add(time.Duration(w.rng.IntN(3)-1) * time.Second))
	case 1:
		target = restore.AtLSN(e.LSN + wal.LSN(w.rng.IntN(2)))
	case 2:
		return restore.AtName(string(rune('a' + w.rng.IntN(9))))
	case 3:
		target = restore.AtXID(uint64(e.XID))
		if e.XID == 0 {
			return restore.Latest()
		}
	default:
		return restore.Latest()
	}
	if w.rng.IntN(2) == 0 {
		target = target.Before()
	}
	return target
}

// TestPlannerAgainstAModel: of thousands of worlds, each plan recovers what it says with the WAL it says, from the best of
// backups; and where there is none, no backup does.
func TestPlannerAgainstAModel(t *testing.T) {
	t.Parallel()
	const worlds = 10_000
	made, refused, several := 0, 0, 0
	for seed := range uint64(worlds) {
		w := newWorld(seed)
		o := &restore.PlanOptions{Log: w}
		end := wal.Timeline(0)
		for _, b := range w.backups {
			end = max(end, b.Timeline)
		}
		for _, tc := range w.coverage.Timelines {
			if len(tc.Ranges) > 0 {
				end = max(end, tc.Timeline)
			}
		}
		if w.rng.IntN(3) == 0 {
			end = wal.Timeline(1 + w.rng.IntN(len(w.begun)))
			o.Timeline = end
		}
		target := w.target()
		what := fmt.Sprintf("world %d, %s, timeline %d", seed, target, end)

		var best *backup.Summary
		var bestIs *wal.Replayed
		ends := map[wal.LSN]bool{}
		for _, b := range w.backups {
			way, ok := w.way(b, end)
			if target.Kind == restore.KindTime && !b.StartedAt.Before(target.Time) || target.Kind == restore.KindLSN && b.StartLSN > target.LSN || !ok {
				continue
			}
			r := w.recovers(b, way, target)
			if r == nil || target.Kind == restore.KindLatest && w.hole(way, end) {
				continue
			}
			ends[r.To] = true
			if best == nil || b.StoppedAt.After(best.StoppedAt) {
				best, bestIs = b, r
			}
		}
		p, err := restore.NewPlan(w.backups, w.coverage, target, o)
		var unreachable *restore.UnreachableError
		switch {
		case target.Kind == restore.KindName && len(ends) > 1 || target.Kind == restore.KindXID && len(ends) > 1:
			require.ErrorAs(t, err, &unreachable, what)
			require.GreaterOrEqual(t, len(unreachable.Means), 2, what)
			several++
		case target.Kind == restore.KindTime && w.goesOn(best, end, target):
			// From an older backup recovery would end before one that is as old as the target: at a commit whose time is ahead.
			require.ErrorAs(t, err, &unreachable, what)
			require.NotNil(t, unreachable.Before, what)
		case best == nil:
			require.ErrorAs(t, err, &unreachable, what)
			require.NotEmpty(t, unreachable.Reason)
			refused++
			if i := unreachable.Instead; i != nil {
				p, err := restore.NewPlan(w.backups, w.coverage, *i, o)
				require.NoError(t, err, "%s: %s", what, *i)
				require.NotNil(t, p)
			}
		case errors.As(err, &unreachable) && len(unreachable.Means) > 1:
			several++ // one of them from a backup that lacks its WAL
		default:
			require.NoError(t, err, what)
			require.Equal(t, best.ID, p.Backup.ID, what)
			require.Equal(t, end, p.Timeline, what)
			// With no more WAL than the plan's, it gets there.
			r := w.recovers(p.Backup, p.WAL, target)
			require.NotNil(t, r, what)
			require.Equal(t, bestIs.To, r.To, what)
			require.Equal(t, bestIs.Last, p.LastCommit, what)
			require.Equal(t, bestIs.Next, p.NextCommit, what)
			made++
		}
	}
	require.Greater(t, made, worlds/3)
	require.Greater(t, refused, worlds/10)
	require.Greater(t, several, worlds/500)
}

// goesOn tells whether a newer backup than the best becomes consistent before a time, and no transaction ends after that.
func (w *world) goesOn(best *backup.Summary, end wal.Timeline, target restore.Target) bool {
	return best != nil && slices.ContainsFunc(w.backups, func(b *backup.Summary) bool {
		way, ok := w.way(b, end)
		if !ok || !b.StoppedAt.After(best.StoppedAt) || !b.StoppedAt.Before(target.Time) || w.recovers(b, way, restore.Latest()) == nil {
			return false
		}
		r, _ := w.Replay(way, b.StartLSN, wal.Until{Time: target.Time, Exclusive: target.Exclusive})
		return !r.Reached
	})
}

// hole tells whether WAL on the way to a timeline is held behind where it ends, or all of that timeline's is missing.
func (w *world) hole(way []wal.Range, end wal.Timeline) bool {
	all, ok := w.coverage.Way(end)
	if !ok {
		all = w.coverage.Timeline(end).Ranges
	}
	reached := way[len(way)-1].Last
	return reached.Timeline != end || all[len(all)-1].Last.Number > reached.Number
}
