package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// loss is what a problem takes from a repository.
type loss struct {
	backups map[ID]bool
	flaws   map[uint64][]flaw // of the archives, by system identifier
}

func newLoss() *loss { return &loss{backups: map[ID]bool{}, flaws: map[uint64][]flaw{}} }

func (l *loss) flaw(system uint64, f flaw) { l.flaws[system] = append(l.flaws[system], f) }

func (l *loss) add(o *loss) {
	for id := range o.backups {
		l.backups[id] = true
	}
	for system, flaws := range o.flaws {
		l.flaws[system] = append(l.flaws[system], flaws...)
	}
}

// maxCosts bounds for how many problems it is told what each costs by itself; what all together cost is told in any case.
const maxCosts = 1000

// conclude finds out what the problems cost, and makes the report.
func (v *verifier) conclude(ctx context.Context) error {
	for _, key := range v.gone {
		delete(v.objects, key)
		delete(v.stored, key)
	}
	if err := v.forgetDeleted(ctx); err != nil {
		return err
	}
	if err := v.readCommits(ctx); err != nil {
		return err
	}
	losses, err := v.losses(ctx)
	if err != nil {
		return err
	}
	v.report.conclude(v, losses)
	return v.tellTimes(ctx)
}

// forgetDeleted forgets what has gone with its backup since the run began: retention may be at work.
func (v *verifier) forgetDeleted(ctx context.Context) error {
	wanting := slices.ContainsFunc(v.clusters(), func(c *costs) bool { return len(c.missing)+len(v.forgotten(c)) > 0 })
	if len(v.findings) == 0 && !wanting {
		return nil
	}
	deleted := map[ID]bool{}
	for _, id := range v.ids {
		_, err := v.repo.Store().Stat(ctx, id.manifestKey())
		if errors.Is(err, fs.ErrNotExist) {
			deleted[id] = true
			delete(v.findings, id.manifestKey())
		} else if err != nil {
			return err
		}
	}
	v.backups = slices.DeleteFunc(v.backups, func(b *Summary) bool { return deleted[b.ID] })
	v.ids = slices.DeleteFunc(v.ids, func(id ID) bool { return deleted[id] })
	return nil
}

// losses tells what each problem takes.
func (v *verifier) losses(ctx context.Context) (map[string]*loss, error) {
	all := map[string]*loss{}
	var packs []string
	keys := false
	for key := range v.findings {
		all[key] = v.lossOf(key)
		if strings.HasPrefix(key, packFolder) {
			packs = append(packs, key)
		}
		keys = keys || strings.HasPrefix(key, "keys/")
	}
	if keys {
		if err := v.lossesOfKeys(ctx, all); err != nil {
			return nil, err
		}
	}
	if len(packs)+len(v.under) > 0 {
		if err := v.lossesOfPacks(ctx, all); err != nil {
			return nil, err
		}
	}
	for _, key := range packs { // deleted with the backups that needed it, or none needs what is wrong with it
		if f := v.findings[key]; f.missing && len(all[key].backups) == 0 && !v.blind {
			delete(all, key)
			delete(v.findings, key)
		}
	}
	return all, nil
}

// lossOf is what an object takes that is not what it should be.
func (v *verifier) lossOf(key string) *loss {
	l := newLoss()
	if o, ok := v.stored[key]; ok {
		l.stored(o)
		return l
	}
	switch {
	case key == markerKey || strings.HasPrefix(key, "systems/"):
		for _, id := range v.ids {
			l.backups[id] = true
		}
	case strings.HasPrefix(key, manifests):
		l.backups[ID(strings.TrimPrefix(key, manifests))] = true
	}
	return l
}

// stored adds an object of an archive.
func (l *loss) stored(o wal.Stored) {
	switch o.Kind {
	case wal.StoredSegment:
		l.flaw(o.System.ID, flaw{run: &wal.Range{First: o.Segment, Last: o.Segment}})
	case wal.StoredHistory:
		l.flaw(o.System.ID, flaw{history: o.Segment.Timeline})
	case wal.StoredPiece:
		l.flaw(o.System.ID, flaw{partial: &o.Segment})
	case wal.StoredPartial, wal.StoredBackup, wal.StoredRollUp: // nothing that a recovery reads
	}
}

// lossesOfKeys adds what keys take: all that is encrypted to them.
func (v *verifier) lossesOfKeys(ctx context.Context, all map[string]*loss) error {
	var keys []string
	for key := range v.objects {
		_, needed := v.needed[key]
		if _, ok := v.stored[key]; ok || needed || strings.HasPrefix(key, manifests) {
			keys = append(keys, key)
		}
	}
	return each(ctx, v.waiting(), keys, func(ctx context.Context, key string) error {
		id, err := v.repo.DataKeyOf(ctx, key)
		var corrupt *repo.CorruptError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &corrupt) {
			return nil // which is another problem
		}
		if err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if at := v.keyAt[id]; at != "" {
			id = at
		}
		l := all[id]
		if l == nil {
			return nil
		}
		if strings.HasPrefix(key, packFolder) {
			v.under[key] = id
			return nil
		}
		l.add(v.lossOf(key))
		return nil
	})
}

// lossesOfPacks asks of each backup that names a pack which is wrong whether it can be restored without what is wrong with it.
func (v *verifier) lossesOfPacks(ctx context.Context, all map[string]*loss) error {
	return each(ctx, v.jobs, v.backups, func(ctx context.Context, b *Summary) error {
		m, err := v.load(ctx, b.ID)
		if m == nil {
			return v.judge(ctx, b.ID.manifestKey(), err)
		}
		for i := range m.PackList {
			p := &m.PackList[i]
			if !slices.ContainsFunc(numbers(len(p.Frames)), p.Needs) {
				continue
			}
			cause := p.Key
			if key, ok := v.under[p.Key]; ok {
				cause = key
			} else if lost, err := v.spoils(ctx, p); err != nil {
				return err
			} else if !lost {
				continue
			}
			v.mu.Lock()
			all[cause].backups[b.ID] = true
			v.mu.Unlock()
		}
		return nil
	})
}

// spoils tells whether what is wrong with a pack, if anything is, is among what a backup needs of it.
func (v *verifier) spoils(ctx context.Context, p *PackPieces) (bool, error) {
	f := v.findings[p.Key]
	if f == nil || f.missing || v.blind {
		return f != nil, nil
	}
	err := v.repo.ReadFrames(ctx, p.Pack, p.Needs, func(int, []byte) error { return nil })
	var corrupt *repo.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// costs finds out what losses cost of one cluster's life: which backups cannot be restored, and which stretches not be
// recovered.
type costs struct {
	system  uint64
	backups []*Summary
	held    wal.Coverage
	sound   wal.Coverage // as it would be without problems
	reached []stretch    // in that
	gaps    []wal.Range  // that are meant to be
	missing []wal.Range  // that are not
}

// clusters sets up what costs are found out by, for each cluster.
func (v *verifier) clusters() []*costs {
	var all []*costs
	for _, s := range v.systems {
		c := &costs{system: s.ID}
		for _, b := range v.backups {
			if b.SystemID == s.ID && b.WALSegmentSize == s.SegmentSize {
				c.backups = append(c.backups, b)
			}
		}
		var there []wal.Stored
		histories := map[wal.Timeline]wal.History{}
		for _, o := range v.stored {
			if o.System != s {
				continue
			}
			there = append(there, o)
		}
		for t, h := range v.history[s.ID] {
			histories[t] = h
		}
		slices.SortFunc(there, func(a, b wal.Stored) int { return strings.Compare(a.Key, b.Key) })
		c.held = wal.CoverageOf(s, there, histories)
		c.sound = filled(c.held, c.backups, func(gap wal.Range) bool {
			meant := v.meant(c, gap)
			if meant {
				c.gaps = append(c.gaps, gap)
			}
			return meant
		})
		c.reached, _ = reachable(c.backups, c.sound)
		c.missing = lacking(c.held, c.sound)
		all = append(all, c)
	}
	return all
}

// forgotten are the timelines that older ones have led to, as far as is known, and whose history is not there; and what of
// each cannot be recovered.
func (v *verifier) forgotten(c *costs) (all []Problem) {
	for _, t := range c.sound.Timelines {
		key := fmt.Sprintf("wal/%d/%s", c.system, t.Timeline.HistoryName())
		_, held := v.objects[key]
		older := slices.ContainsFunc(c.backups, func(b *Summary) bool { return b.Timeline < t.Timeline })
		if held || v.blind || t.Timeline == 1 || !older {
			continue
		}
		p := Problem{Key: key, Err: errGone}
		var there []stretch
		for _, r := range t.Ranges {
			there = append(there, stretch{t.Timeline, r.First.Start(), r.Last.End()})
		}
		for _, s := range minus(union(there), c.reached) {
			p.Spans = append(p.Spans, c.span(s, nil))
		}
		all = append(all, p)
	}
	return all
}

// readCommits finds out when the first commit of each run of segments was made, where gaps are to be judged by their age.
func (v *verifier) readCommits(ctx context.Context) error {
	if v.options.KeepWAL <= 0 || v.blind {
		return nil
	}
	for _, c := range v.clusters() {
		if len(c.missing) == 0 {
			continue
		}
		a, err := wal.NewArchive(v.repo, &wal.Options{SystemID: c.system})
		if err != nil {
			return err
		}
		for _, t := range c.held.Timelines {
			for _, r := range t.Ranges {
				one := wal.Coverage{System: c.held.System, Timelines: []wal.TimelineCoverage{{Timeline: t.Timeline, Ranges: []wal.Range{r}}}}
				known, err := v.timesOf(ctx, a, &one)
				if err != nil {
					return err
				}
				if first := one.Timelines[0].Ranges[0]; known && !first.FirstCommit.IsZero() {
					v.commits[c.system] = append(v.commits[c.system], first)
				}
			}
		}
	}
	return nil
}

// timesOf fills in when commits were made. False is that it cannot be told.
func (v *verifier) timesOf(ctx context.Context, a *wal.Archive, c *wal.Coverage) (bool, error) {
	err := a.Times(ctx, c)
	var corrupt *repo.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, fs.ErrNotExist) || err != nil && ctx.Err() == nil && len(v.badKeys) > 0 {
		return false, nil
	}
	return err == nil, err
}

// meant tells whether a gap is one that retention may have left: WAL that is older than is to be kept, between backups. So it
// is before a backup that is as old, and stays so when that backup is dropped: then commits behind it are as old.
func (v *verifier) meant(c *costs, gap wal.Range) bool {
	if v.options.KeepWAL <= 0 {
		return false
	}
	since := v.repo.Now().Add(-v.options.KeepWAL)
	aged := slices.ContainsFunc(v.commits[c.system], func(r wal.Range) bool {
		left, _ := v.history[c.system][r.First.Timeline].Until(gap.First.Timeline)
		behind := gap.Last.Start() < left
		if r.First.Timeline == gap.First.Timeline {
			behind = gap.Last.Number < r.First.Number
		}
		return behind && !r.FirstCommit.After(since)
	})
	older := slices.ContainsFunc(c.backups, func(b *Summary) bool {
		left, _ := v.history[c.system][b.Timeline].Until(gap.First.Timeline) // 0: it is not on the way to the backup
		before := gap.Last.Start() < left
		if b.Timeline == gap.First.Timeline {
			before = gap.Last.Number < b.FirstSegment().Number
		}
		return before && (aged || !b.StoppedAt.After(since))
	})
	needed := slices.ContainsFunc(c.backups, func(b *Summary) bool {
		return b.Timeline == gap.First.Timeline && b.FirstSegment().Number <= gap.Last.Number && gap.First.Number <= b.LastSegment().Number
	})
	return older && !needed
}

// of tells what a loss costs.
func (c *costs) of(l *loss) (lost []ID, spans []Span) {
	var left []*Summary
	for _, b := range c.backups {
		if l.backups[b.ID] {
			lost = append(lost, b.ID)
		} else {
			left = append(left, b)
		}
	}
	reached, unreached := reachable(left, without(c.sound, l.flaws[c.system]))
	for _, id := range unreached {
		if _, before := reachable(c.only(id), c.sound); len(before) == 0 {
			lost = append(lost, id)
		}
	}
	slices.Sort(lost)
	for _, s := range minus(c.reached, reached) {
		spans = append(spans, c.span(s, lost))
	}
	return lost, spans
}

func (c *costs) only(id ID) []*Summary {
	return slices.DeleteFunc(slices.Clone(c.backups), func(b *Summary) bool { return b.ID != id })
}

// span describes a stretch, with what backups tell of the time.
func (c *costs) span(s stretch, lost []ID) Span {
	x := Span{SystemID: c.system, Timeline: s.timeline, FromLSN: s.from, ToLSN: s.to}
	for _, b := range c.backups {
		if b.Timeline != s.timeline {
			continue
		}
		if b.StopLSN <= s.from && b.StoppedAt.After(x.FromTime) {
			x.FromTime = b.StoppedAt
		}
		if b.StopLSN >= s.to && (x.ToTime.IsZero() || b.StoppedAt.Before(x.ToTime)) {
			x.ToTime = b.StoppedAt
		}
		if b.StopLSN <= s.from && !slices.Contains(lost, b.ID) {
			x.endsFor = append(x.endsFor, b.ID)
		}
	}
	return x
}

// tellTimes narrows the times of spans down by the commits before and behind them, where the indexes of the WAL can be read.
func (v *verifier) tellTimes(ctx context.Context) error {
	for i := range v.report.Problems {
		for k := range v.report.Problems[i].Spans {
			if err := v.tellTime(ctx, &v.report.Problems[i].Spans[k]); err != nil {
				return err
			}
		}
	}
	for k := range v.report.Lost.Spans {
		if err := v.tellTime(ctx, &v.report.Lost.Spans[k]); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) tellTime(ctx context.Context, s *Span) error {
	if v.blind || v.times > maxCosts {
		return nil
	}
	v.times++
	a, err := wal.NewArchive(v.repo, &wal.Options{SystemID: s.SystemID})
	if err != nil {
		return err
	}
	for _, c := range v.known {
		if c.system != s.SystemID {
			continue
		}
		before, behind := v.around(c, s)
		for _, side := range []struct {
			runs []wal.Range
			tell func(wal.Range)
		}{
			{before, func(r wal.Range) {
				if r.LastCommit.After(s.FromTime) {
					s.FromTime = r.LastCommit
				}
			}},
			{behind, func(r wal.Range) {
				if at := r.LastCommit; !at.IsZero() && s.ToTime.IsZero() {
					s.ToTime = at
				}
			}},
		} {
			cov := wal.Coverage{System: c.sound.System, Timelines: []wal.TimelineCoverage{{Timeline: s.Timeline, Ranges: side.runs}}}
			if len(side.runs) == 0 {
				continue
			}
			known, err := v.timesOf(ctx, a, &cov)
			if err != nil {
				return err
			}
			if known {
				side.tell(cov.Timelines[0].Ranges[0])
			}
		}
	}
	return nil
}

// around is the run of sound segments just before a span, and the last run of segments within it or behind.
func (v *verifier) around(c *costs, s *Span) (before, behind []wal.Range) {
	t := c.sound.Timeline(s.Timeline)
	if t == nil {
		return nil, nil
	}
	runs := t.Ranges
	for key := range v.findings {
		if o, ok := v.stored[key]; ok && o.System.ID == c.system && o.Kind == wal.StoredSegment {
			if o.Segment.Timeline == s.Timeline {
				runs = takeOut(runs, wal.Range{First: o.Segment, Last: o.Segment})
			}
		}
	}
	for _, gap := range c.missing {
		if gap.First.Timeline == s.Timeline {
			runs = takeOut(runs, gap)
		}
	}
	for _, r := range runs {
		if r.Last.End() <= s.FromLSN {
			before = []wal.Range{r}
		} else if r.First.Start() < s.FromLSN {
			before = []wal.Range{{First: r.First, Last: wal.SegmentAt(s.Timeline, s.FromLSN-1, r.First.Size)}}
		}
		if r.Last.End() <= s.ToLSN && r.Last.Start() >= s.FromLSN {
			behind = []wal.Range{r}
		}
	}
	return before, behind
}

// keyOf is the key that a segment has.
func keyOf(system uint64, s wal.Segment) string {
	name := s.Name()
	return fmt.Sprintf("wal/%s/%s/%s/%s", strconv.FormatUint(system, 10), name[:8], name[8:22], name)
}

// leaveReceipt leaves a receipt of the run.
func (v *verifier) leaveReceipt(ctx context.Context) {
	r := v.report
	t := &Receipt{
		Kind: ReceiptVerify, BeganAt: r.BeganAt, EndedAt: r.EndedAt, OK: r.OK(), Whole: r.Whole, ReadData: r.ReadData,
		Objects: r.Objects, Bytes: r.ReadBytes, Problems: len(r.Problems), Backups: v.options.Backups, Left: r.LeftObjects,
	}
	if !r.Whole && v.chosen == nil { // of those that this host could tell of
		for _, b := range v.backups {
			t.Backups = append(t.Backups, b.ID)
		}
	}
	v.writeReceipt(ctx, t, r.Problems)
}

// leaveFound leaves a receipt of a run that has failed, if it has found something before: nobody may run another one soon.
// What is missing may have been deleted with its backup, which is not known; the next run looks for it in any case.
func (v *verifier) leaveFound(ctx context.Context) {
	var found []Problem
	for _, p := range v.report.Problems {
		if f := v.findings[p.Key]; f != nil && !f.missing {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	// It is about nothing besides what it has found, so that it stands for no receipt before it.
	v.writeReceipt(ctx, &Receipt{
		Kind: ReceiptVerify, BeganAt: v.report.BeganAt, EndedAt: v.report.EndedAt, ReadData: v.report.ReadData, Problems: len(found),
	}, found)
}

func (v *verifier) writeReceipt(ctx context.Context, t *Receipt, found []Problem) {
	if len(found) > 0 {
		t.Problem = found[0].Key + ": " + found[0].Err.Error()
	}
	if err := WriteReceipt(ctx, v.repo, t); err != nil {
		v.log.WarnContext(ctx, "cannot leave a receipt", "error", err)
		v.note("no receipt could be left in the repository: %v", err)
	}
}
