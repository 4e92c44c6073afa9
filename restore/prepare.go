package restore

import (
	"context"
	"errors"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Prepare plans a recovery from what a repository holds: it lists the backups and the archive and calls [NewPlan]. It
// changes nothing. A backup whose manifest is corrupt is passed over, with a warning in the plan.
func Prepare(ctx context.Context, r *repo.Repo, t Target, o *PlanOptions) (*Plan, error) {
	all, listed := backup.List(ctx, r)
	var corrupt *repo.CorruptError
	if listed != nil && !errors.As(listed, &corrupt) {
		return nil, listed
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		return nil, err
	}
	c, err := a.Coverage(ctx)
	if err != nil {
		return nil, err
	}
	p, err := NewPlan(all, c, t, o)
	if err != nil {
		return nil, errors.Join(err, listed)
	}
	if listed != nil {
		p.Warnings = append(p.Warnings, listed.Error())
	}
	return p, nil
}
