package restore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// replay decides by the log whether recovery gets to the target with the WAL there is, which ends where a segment is
// missing.
func (p *planner) replay(plan *Plan, h wal.History, missing wal.Segment) error {
	lacking, beyond := p.lacking(plan, h, missing)
	r, err := p.options.Log.Replay(plan.WAL, plan.Backup.StartLSN, p.target.until(plan.Backup))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	plan.LastCommit, plan.NextCommit, plan.stop = r.Last, r.Next, r.To
	switch {
	case !r.Reached && r.To < plan.Backup.StopLSN:
		// PostgreSQL: WAL ends before end of online backup. An older backup may do without what cannot be read.
		why := "no record begins there"
		if r.Broken != nil {
			why = r.Broken.Error()
		}
		return p.unreachable(fmt.Sprintf("backup %s needs WAL up to %s, which cannot be read beyond %s: %s",
			plan.Backup.ID, plan.Backup.StopLSN, r.To, why), nil, nil)
	case p.target.Kind == KindImmediate:
		plan.trimToConsistent()
		return nil
	case p.target.Kind == KindLatest && !beyond && plan.arrives():
		if r.Broken != nil {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf(
				"recovery will end at %s, before the archived WAL does, where it cannot be read: %s", r.To, r.Broken))
		}
		return nil
	case !r.Reached || p.target.Kind == KindLatest:
		return p.unreached(plan, r, missing, lacking, beyond)
	case r.To < plan.Backup.StopLSN:
		// PostgreSQL: requested recovery stop point is before consistent recovery point.
		after := Point{Time: plan.Backup.StoppedAt, LSN: plan.Backup.StopLSN}
		return &UnreachableError{Target: p.target, After: &after, Reason: fmt.Sprintf(
			"recovery would end at %s, before backup %s is consistent, at %s", r.To, plan.Backup.ID, plan.Backup.StopLSN)}
	}
	plan.trim(uint64(r.Read-1) / uint64(missing.Size))
	p.warnOfOthers(plan, h, r)
	return nil
}

// unreached tells why recovery would not get to the target, and what to recover to instead.
func (p *planner) unreached(plan *Plan, r *wal.Replayed, missing wal.Segment, lacking []wal.Range, beyond bool) *UnreachableError {
	e := p.unreachable("", nil, &Point{LSN: r.To})
	last := "no commit after the begin of the backup"
	if r.Last != nil {
		e.Before = &Point{Time: r.Last.Time, LSN: r.Last.LSN}
		last = fmt.Sprintf("its last commit is transaction %d at %s", r.Last.XID, r.Last.Time.Format(time.RFC3339Nano))
	}
	what := map[Kind]string{
		KindTime: "in the WAL no transaction ended after it", KindXID: "in the WAL the transaction did not end",
		KindName: "in the WAL there is no such restore point", KindLSN: "the WAL ends before it",
	}[p.target.Kind]
	switch {
	case r.Broken != nil:
		e.Reason = fmt.Sprintf("%s, which cannot be read beyond %s (%s)", cmp.Or(what, "the WAL"), r.To, r.Broken)
	case p.target.Kind == KindLatest:
		e.Reason, e.Missing = plan.lacks(missing, beyond), lacking
	case beyond:
		e.Reason, e.Missing = fmt.Sprintf("%s: segment %s is missing, and there are later ones", what, missing), lacking
	default:
		e.Reason, e.Missing = fmt.Sprintf("%s: it is archived up to %s, before segment %s, and %s", what, r.To, missing, last), lacking
	}
	switch {
	case !beyond && r.Broken == nil && plan.arrives():
		latest := Latest()
		e.Instead = &latest
	case r.Last != nil && r.Last.LSN >= plan.Backup.StopLSN: // as candidates have to be
		at := AtLSN(r.Last.LSN)
		e.Instead = &at
	}
	return e
}

// warnOfOthers tells of timelines beside the way on which the cluster had got further by the target time.
func (p *planner) warnOfOthers(plan *Plan, h wal.History, r *wal.Replayed) {
	if p.target.Kind != KindTime || p.options.Timeline != 0 {
		return
	}
	for _, f := range h.Forks {
		t := p.coverage.Timeline(f.Timeline)
		beyondFork := r.To >= f.At || r.Next != nil && r.Next.LSN >= f.At
		if t == nil || len(t.Ranges) == 0 || !beyondFork {
			continue
		}
		end := t.Ranges[len(t.Ranges)-1]
		if end.Last.End() > f.At && end.LastCommit.After(lastTime(r)) {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf(
				"timeline %d, which the way to timeline %d leaves at %s, has commits up to %s: choose it if that is what you want back",
				f.Timeline, plan.Timeline, f.At, end.LastCommit.Format(time.RFC3339Nano)))
		}
	}
}

func lastTime(r *wal.Replayed) time.Time {
	if r.Last == nil {
		return time.Time{}
	}
	return r.Last.Time
}

// meant narrows the candidates down to those from which recovery gets to what an XID or a name stands for.
func (p *planner) meant(candidates []*backup.Summary) ([]*backup.Summary, error) {
	var fit []*backup.Summary
	var means []wal.Event
	ways := map[wal.Timeline][]wal.Event{}
	for _, b := range candidates {
		end := p.endOn(b)
		found, ok := ways[end]
		if !ok {
			var err error
			if found, err = p.options.Log.Matches(heldOn(p.coverage, end), p.target.until(b)); err != nil {
				return nil, fmt.Errorf("restore: %w", err)
			}
			ways[end] = found
		}
		if _, err := p.history(b, end); err != nil {
			continue
		}
		i := slices.IndexFunc(found, func(e wal.Event) bool { return e.LSN >= b.StartLSN })
		if i < 0 {
			continue
		}
		e := found[i]
		if e.End < b.StopLSN || p.target.Exclusive && e.LSN < b.StopLSN {
			continue
		}
		fit = append(fit, b)
		if !slices.ContainsFunc(means, func(m wal.Event) bool { return m.LSN == e.LSN && m.Timeline == e.Timeline }) {
			means = append(means, e)
		}
	}
	switch {
	case len(means) > 1:
		slices.SortFunc(means, func(a, b wal.Event) int { return a.Time.Compare(b.Time) })
		e := p.unreachable("there are several: "+strings.Join(describe(means), "; ")+
			". Choose one by its position, or by a backup shortly before it", nil, nil)
		e.Means = means
		return nil, e
	case len(fit) > 0:
		return fit, nil
	}
	return nil, p.meansNothing(candidates, ways)
}

// meansNothing tells why no backup leads to what an XID or a name stands for.
func (p *planner) meansNothing(candidates []*backup.Summary, ways map[wal.Timeline][]wal.Event) error {
	var seen []wal.Event
	for _, found := range ways {
		seen = append(seen, found...)
	}
	if len(seen) > 0 {
		return p.unreachable("every backup that leads there ended after it, or cannot be recovered: "+strings.Join(describe(seen), "; "), nil, nil)
	}
	what := "no such transaction ended"
	if p.target.Kind == KindName {
		what = "there is no restore point of that name"
	}
	missing := p.missingOnTheWay(candidates[0])
	if len(missing) > 0 {
		what += fmt.Sprintf(", unless it was in WAL that is missing from segment %s on", missing[0].First)
	}
	for _, t := range p.coverage.Timelines {
		found, err := p.options.Log.Matches(t.Held(), p.target.until(candidates[0]))
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if len(found) > 0 {
			return p.unreachable(fmt.Sprintf("on the way to the timeline %s, but on timeline %d, which it leaves before or does not "+
				"come from: choose that. %s", what, t.Timeline, strings.Join(describe(found), "; ")), missing, nil)
		}
	}
	return p.unreachable("in the archived WAL "+what, missing, nil)
}

// missingOnTheWay returns the WAL that is missing from a backup to the end of its way.
func (p *planner) missingOnTheWay(b *backup.Summary) []wal.Range {
	latest := *p
	latest.target, latest.options.Log = Latest(), nil
	_, err := latest.from(b)
	var unreachable *UnreachableError
	if errors.As(err, &unreachable) {
		return unreachable.Missing
	}
	return nil
}

// describe says in words what happened.
func describe(all []wal.Event) []string {
	var out []string
	for _, e := range all {
		what := "restore point " + e.Name
		switch e.Kind {
		case wal.EventCommit:
			what = fmt.Sprintf("commit of transaction %d", e.XID)
		case wal.EventAbort:
			what = fmt.Sprintf("abort of transaction %d", e.XID)
		}
		out = append(out, fmt.Sprintf("%s at %s, at %s", what, e.LSN, e.Time.Format(time.RFC3339Nano)))
	}
	return out
}
