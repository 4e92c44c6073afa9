package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
)

// planCommand says how a target would be recovered.
type planCommand struct {
	target
}

// Run runs the command.
func (c *planCommand) Run(ctx context.Context, a *app) error {
	_, p, err := c.prepare(ctx, a, true)
	if err != nil {
		return err
	}
	return a.print(p, func(w *strings.Builder) { fmt.Fprint(w, p) })
}

// prepare opens the repository and plans, and tells what will be undone where that is asked for. That a target cannot be
// reached is printed as a plan is.
func (t *target) prepare(ctx context.Context, a *app, undone bool) (*repo.Repo, *restore.Plan, error) {
	to, err := t.target()
	if err != nil {
		return nil, nil, err
	}
	o, err := t.options()
	if err != nil {
		return nil, nil, err
	}
	o.Undone = undone
	r, err := a.repository(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	p, err := restore.Prepare(ctx, r, to, o)
	var unreachable *restore.UnreachableError
	if errors.As(err, &unreachable) {
		if perr := a.print(unreachable, nil); perr != nil {
			return nil, nil, perr
		}
	}
	return r, p, err
}
