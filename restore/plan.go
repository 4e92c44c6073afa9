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

// PlanOptions narrow a plan down. A nil *PlanOptions, and the zero value of each field, is its default.
type PlanOptions struct {
	// Backup forces one backup. The default picks the newest that can lead to the target.
	Backup backup.ID

	// SystemID is the system identifier of the cluster to recover, where the repository has belonged to several (see
	// [wal.Archive.Upgrade]). The default, 0, is that of Backup, where one is forced, and else the one that the repository
	// belongs to; for a time that is before its first backup, a cluster before it. In NewPlan it is that of the coverage.
	SystemID uint64

	// Timeline is where to end: a number, or Current for the timeline of the backup. The default, 0, is the newest that
	// a backup or archived WAL is of; for Immediate, that of the backup.
	Timeline wal.Timeline

	// Log tells what the archived WAL does. The default is, for Prepare, the archive itself; for NewPlan, that nothing is
	// known but the names of segments.
	Log Log

	// Undone has Prepare tell what recovery leaves out, which takes the indexes of all WAL from there on.
	Undone bool
}

// Current stands for the timeline of the backup that is restored.
const Current = ^wal.Timeline(0)

// Plan says what a restore will do.
type Plan struct {
	Backup       *backup.Summary
	Target       Target
	Timeline     wal.Timeline // where recovery ends
	WAL          []wal.Range  // that recovery reads, in order
	WALBytes     int64        // of these segments
	RestoreBytes int64        // of the backup's files
	SpaceBytes   int64        // that it takes where it is restored to, with the WAL; less where pages are empty
	Requests     int          // to the store, about
	Warnings     []string

	// LastCommit is the last commit that will be in, and NextCommit the first that will not, in the order of the WAL, which
	// is not quite that of their times. They are nil where there is none from the begin of the backup on, and where the
	// plan was made without a [Log].
	LastCommit, NextCommit *wal.Event

	// Undone is what recovery leaves out; nil unless [PlanOptions] asks for it.
	Undone *Undone

	forced    bool           // Timeline was asked for
	histories []wal.Timeline // with an archived history
	stop      wal.LSN        // before which all records are replayed; 0: it is not known
	partial   *wal.Partial   // the last segment of WAL, where only a part of it is held
}

// End is the position at which the WAL of the plan ends.
func (p *Plan) End() wal.LSN {
	if len(p.WAL) == 0 {
		return p.Backup.StopLSN
	}
	if p.partial != nil {
		return p.partial.End
	}
	return p.WAL[len(p.WAL)-1].Last.End()
}

// files returns the names of the files of the archive that recovery may read. Of histories, all there are: PostgreSQL
// chooses the number of the timeline it will begin so that none of them is taken.
func (p *Plan) files() []string {
	var names []string
	for _, t := range p.histories {
		names = append(names, t.HistoryName())
	}
	for _, r := range p.WAL {
		for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
			names = append(names, s.Name())
		}
	}
	return names
}

// Point is a moment that recovery could end at.
type Point struct {
	Time time.Time `json:"time,omitzero"`
	LSN  wal.LSN   `json:"lsn,omitzero"`
}

// UnreachableError means that no backup, with the WAL that is archived, leads to the target.
type UnreachableError struct {
	Target  Target
	Reason  string
	Missing []wal.Range // segments whose absence is the reason, if it is
	Before  *Point      // the nearest reachable point before the target, if one is known
	After   *Point      // and after it
	Instead *Target     // what to recover to instead, to lose nothing more, if that is known
	Means   []wal.Event // what the target may mean, where that is several things
}

func (e *UnreachableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "restore: cannot recover %s: %s", e.Target, e.Reason)
	if e.Before != nil {
		fmt.Fprintf(&b, "; the nearest before is %s", e.Before)
	}
	if e.After != nil {
		fmt.Fprintf(&b, "; the nearest after is %s", e.After)
	}
	if e.Instead != nil {
		fmt.Fprintf(&b, "; recover %s instead", e.Instead)
	}
	return b.String()
}

// String gives what is known of the point.
func (p *Point) String() string {
	if p.Time.IsZero() {
		return p.LSN.String()
	}
	return p.Time.Format(time.RFC3339Nano) + " (" + p.LSN.String() + ")"
}

// NewPlan decides how to reach a target with the backups and the WAL there are. It is pure: it asks nobody, and leaves
// its arguments as they are. A target that cannot be reached is an *[UnreachableError].
//
// The coverage is of one cluster, and the backups of others are left out of account: where the repository has belonged to
// several, a timeline of one is not that of the same number of another.
//
// Without a [Log], whether the WAL holds a commit after a time, or a transaction or restore point at all, cannot be told:
// the names of segments do not say. Where that matters the plan warns; PostgreSQL then refuses to end recovery early.
func NewPlan(all []*backup.Summary, c wal.Coverage, t Target, o *PlanOptions) (*Plan, error) {
	if o == nil {
		o = &PlanOptions{}
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	given := all
	all = ofCluster(all, c)
	p := &planner{given: given, backups: all, coverage: c, target: t, options: *o, newest: newestTimeline(all, c)}
	candidates, err := p.candidates()
	if err != nil {
		return nil, err
	}
	var first *UnreachableError
	ended := map[wal.Timeline]bool{} // before the target, whatever the WAL is replayed onto
	for _, b := range candidates {
		if ended[p.endOn(b)] {
			continue
		}
		plan, err := p.from(b)
		var unreachable *UnreachableError
		if err == nil || !errors.As(err, &unreachable) {
			return plan, err
		}
		if first == nil {
			first = unreachable // the most likely candidate's is the one to tell
		} else if first.Before == nil {
			first.Before, first.Instead = unreachable.Before, unreachable.Instead // which takes an older backup
		}
		ended[p.endOn(b)] = unreachable.Before != nil && p.options.Log != nil
	}
	return nil, first
}

type planner struct {
	given    []*backup.Summary // of all clusters
	backups  []*backup.Summary // of the archive's
	coverage wal.Coverage
	target   Target
	options  PlanOptions
	newest   wal.Timeline
	after    *Point // the first after the target that a backup alone leads to
}

// ofCluster returns the backups of the cluster that the archive is of.
func ofCluster(all []*backup.Summary, c wal.Coverage) []*backup.Summary {
	if c.System.ID == 0 {
		return all
	}
	var ours []*backup.Summary
	for _, b := range all {
		if b.SystemID == c.System.ID {
			ours = append(ours, b)
		}
	}
	return ours
}

// newestTimeline is the highest number that any backup or segment has. Of a timeline that is known by its history only
// there is nothing to recover yet.
func newestTimeline(all []*backup.Summary, c wal.Coverage) (newest wal.Timeline) {
	for _, b := range all {
		newest = max(newest, b.Timeline)
	}
	for _, t := range c.Timelines {
		if len(t.Ranges) > 0 || t.Partial != nil {
			newest = max(newest, t.Timeline)
		}
	}
	return newest
}

// candidates returns the backups that may lead to the target, most preferable first.
func (p *planner) candidates() ([]*backup.Summary, error) {
	var fit []*backup.Summary
	known := false
	for _, b := range p.backups {
		if p.options.Backup != "" && b.ID != p.options.Backup {
			continue
		}
		known = true
		if p.startsBefore(b) {
			fit = append(fit, b)
		} else if last, ok := p.coverage.From(b.FirstSegment()); ok && last.Number >= b.LastSegment().Number &&
			(p.after == nil || b.StopLSN < p.after.LSN) {
			p.after = &Point{Time: b.StoppedAt, LSN: b.StopLSN}
		}
	}
	switch {
	case len(fit) > 0:
	case p.options.Backup != "" && !known:
		return nil, p.unreachable(fmt.Sprintf("there is no backup %s", p.options.Backup)+p.elsewhere(), nil, nil)
	case !known:
		return nil, p.unreachable("there is no backup"+p.elsewhere(), nil, nil)
	case p.options.Backup != "":
		return nil, p.unreachable(fmt.Sprintf("backup %s ended after the target", p.options.Backup), nil, nil)
	default:
		return nil, p.unreachable("every backup ended after the target", nil, nil)
	}
	slices.SortStableFunc(fit, func(a, b *backup.Summary) int {
		newestFirst := cmp.Or(b.StoppedAt.Compare(a.StoppedAt), cmp.Compare(b.ID, a.ID))
		if p.options.Log == nil && (p.target.Kind == KindXID || p.target.Kind == KindName) {
			// Nothing tells whether these came before a backup's end, so replay all there is.
			return -newestFirst
		}
		return newestFirst
	})
	if p.options.Log != nil && (p.target.Kind == KindXID || p.target.Kind == KindName) {
		return p.meant(fit)
	}
	return fit, nil
}

// elsewhere tells whose backups there are where there are none of the archive's cluster.
func (p *planner) elsewhere() string {
	var ids []uint64
	for _, b := range p.given {
		if b.SystemID != p.coverage.System.ID && !slices.Contains(ids, b.SystemID) {
			ids = append(ids, b.SystemID)
		}
	}
	if len(ids) == 0 || p.coverage.System.ID == 0 {
		return ""
	}
	return fmt.Sprintf(" of system identifier %d, only of %s", p.coverage.System.ID, strings.Trim(fmt.Sprint(ids), "[]"))
}

// startsBefore tells whether a backup may be consistent before the target: with a log, which tells more, if it began before,
// and else if it ended before.
func (p *planner) startsBefore(b *backup.Summary) bool {
	at, lsn := b.StoppedAt, b.StopLSN
	if p.options.Log != nil {
		at, lsn = b.StartedAt, b.StartLSN
	}
	switch p.target.Kind {
	case KindTime:
		return at.Before(p.target.Time)
	case KindLSN:
		return lsn <= p.target.LSN
	}
	return true
}

// endOn is the timeline that recovery from a backup is to end on.
func (p *planner) endOn(b *backup.Summary) wal.Timeline {
	switch t := p.options.Timeline; {
	case t == Current, t == 0 && p.target.Kind == KindImmediate:
		return b.Timeline
	case t != 0:
		return t
	}
	return p.newest
}

// history is how the WAL came to a timeline from a backup.
func (p *planner) history(b *backup.Summary, end wal.Timeline) (wal.History, *UnreachableError) {
	h, ok := p.coverage.History(end)
	if end == b.Timeline {
		h, ok = wal.History{Timeline: end}, true // where it came from does not matter
	}
	if !ok {
		return h, p.unreachable(fmt.Sprintf("the history of timeline %d is not archived", end), nil, nil)
	}
	left, ok := h.Until(b.Timeline)
	if !ok || left != 0 && left < b.StopLSN {
		return h, p.unreachable(fmt.Sprintf("timeline %d did not come from backup %s, which is on timeline %d: choose another timeline",
			end, b.ID, b.Timeline), nil, nil)
	}
	return h, nil
}

// from plans a restore of one backup. That it does not lead to the target is an *[UnreachableError].
func (p *planner) from(b *backup.Summary) (*Plan, error) {
	end := p.endOn(b)
	plan := &Plan{Backup: b, Target: p.target, Timeline: end, RestoreBytes: b.ClusterBytes, forced: p.options.Timeline != 0}
	h, unreachable := p.history(b, end)
	if unreachable != nil {
		return nil, unreachable
	}
	if err := p.walk(plan, h); err != nil {
		return nil, err
	}
	for _, t := range p.coverage.Timelines {
		if t.History != nil {
			plan.histories = append(plan.histories, t.Timeline)
		}
	}
	segments := 0
	for _, r := range plan.WAL {
		n := int(r.Last.Number-r.First.Number) + 1
		segments += n
		plan.WALBytes += int64(n) * int64(r.Last.Size)
	}
	plan.SpaceBytes = plan.RestoreBytes + plan.WALBytes
	plan.Requests = 4 + b.Packs + segments + len(plan.histories) // 4: marker, list, manifest, a data key
	p.warn(plan)
	return plan, nil
}

func (p *planner) unreachable(reason string, missing []wal.Range, before *Point) *UnreachableError {
	return &UnreachableError{Target: p.target, Reason: reason, Missing: missing, Before: before, After: p.after}
}

// warn tells what cannot be known yet.
func (p *planner) warn(plan *Plan) {
	for _, t := range p.coverage.Timelines {
		if p.options.Timeline == 0 && t.Timeline > p.newest {
			plan.Warnings = append(plan.Warnings, fmt.Sprintf(
				"timeline %d has begun, but none of its WAL is archived: recovery ends on timeline %d", t.Timeline, plan.Timeline))
		}
	}
	if p.options.Log != nil {
		return
	}
	switch p.target.Kind {
	case KindTime:
		plan.Warnings = append(plan.Warnings,
			"PostgreSQL ends recovery at the first commit after the time; when the archived WAL, up to "+plan.End().String()+
				", holds none, it will refuse to start rather than end early")
	case KindXID, KindName:
		if p.options.Backup == "" {
			plan.Warnings = append(plan.Warnings, "recovery begins with the oldest backup, since it is not known when the target was: "+
				"force a newer backup to save time")
		}
	}
}
