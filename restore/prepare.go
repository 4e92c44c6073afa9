package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Prepare plans a recovery from what a repository holds: it lists the backups and the archive and calls [NewPlan]. It
// changes nothing. A backup whose manifest cannot be read, as a *[backup.UnreadableError] says, is passed over, with a
// warning in the plan.
func Prepare(ctx context.Context, r *repo.Repo, t Target, o *PlanOptions) (*Plan, error) {
	if o == nil {
		o = &PlanOptions{}
	}
	all, listed := backup.List(ctx, r)
	var unreadable *backup.UnreadableError
	if listed != nil && !errors.As(listed, &unreadable) {
		return nil, listed
	}
	p, err := prepare(ctx, r, all, t, o)
	if err != nil {
		return nil, errors.Join(err, listed)
	}
	if listed != nil {
		p.Warnings = append(p.Warnings, listed.Error())
	}
	return p, nil
}

func prepare(ctx context.Context, r *repo.Repo, all []*backup.Summary, t Target, o *PlanOptions) (*Plan, error) {
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		return nil, err
	}
	systems, err := a.Systems(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return NewPlan(all, wal.Coverage{}, t, o)
	}
	if err != nil {
		return nil, err
	}
	current := systems[len(systems)-1].ID
	var failed error            // the most likely cluster's is the one to tell,
	var first *UnreachableError // with the reasons of the others
	for _, id := range clusters(systems, all, t, o) {
		if a, err = wal.NewArchive(r, &wal.Options{SystemID: id}); err != nil {
			return nil, err
		}
		c, err := a.Coverage(ctx)
		if err != nil {
			return nil, err
		}
		p, err := planWith(ctx, r, a, all, c, t, o)
		var unreachable *UnreachableError
		switch {
		case err == nil && id != current:
			p.Warnings = append(p.Warnings, fmt.Sprintf(
				"this is the cluster of system identifier %d, to which the repository belonged before %d", id, current))
			return p, nil
		case err == nil:
			return p, nil
		case !errors.As(err, &unreachable):
			return nil, err
		case first == nil:
			failed, first = err, unreachable
		default:
			first.Reason += fmt.Sprintf("; of the cluster of system identifier %d: %s", id, unreachable.Reason)
			first.Before = cmp.Or(first.Before, unreachable.Before)
		}
	}
	return nil, failed
}

// planWith plans with the log of an archive. What cannot be read of it keeps nobody from a recovery that needs none of it.
func planWith(ctx context.Context, r *repo.Repo, a *wal.Archive, all []*backup.Summary, c wal.Coverage, t Target, o *PlanOptions) (*Plan, error) {
	with := *o
	if o.Log == nil {
		with.Log = &archiveLog{ctx: ctx, archive: a, coverage: c}
	}
	var err error
	if t.Kind == KindTime && len(c.Timelines) > 1 {
		err = a.Times(ctx, &c)
	}
	var p *Plan
	if err == nil {
		p, err = NewPlan(all, c, t, &with)
	}
	if repo.Unreadable(err) {
		unread := err
		if p, err = NewPlan(all, c, t, o); err != nil {
			return nil, errors.Join(err, unread)
		}
		p.Warnings = append(p.Warnings, "what the WAL does cannot be told: "+unread.Error())
		return p, nil
	}
	if err != nil || !o.Undone {
		return p, err
	}
	p.Undone, err = p.undone(ctx, r, a, c)
	if repo.Unreadable(err) {
		p.Warnings = append(p.Warnings, "what is undone cannot be told: "+err.Error())
		return p, nil
	}
	return p, err
}

// clusters are the system identifiers of the clusters that a target may be of, most likely first.
func clusters(systems []wal.System, all []*backup.Summary, t Target, o *PlanOptions) []uint64 {
	if o.SystemID != 0 {
		return []uint64{o.SystemID}
	}
	if i := slices.IndexFunc(all, func(b *backup.Summary) bool { return b.ID == o.Backup }); i >= 0 {
		return []uint64{all[i].SystemID}
	}
	var ids []uint64
	for _, s := range slices.Backward(systems) {
		ids = append(ids, s.ID)
		reaches := func(b *backup.Summary) bool { return b.SystemID == s.ID && b.StoppedAt.Before(t.Time) }
		// Anything but a time means something within one cluster only.
		if t.Kind != KindTime || slices.ContainsFunc(all, reaches) {
			break
		}
	}
	return ids
}
