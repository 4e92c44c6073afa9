package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/crypto"
)

// walListCommand lists what the archive holds.
type walListCommand struct{}

// Run runs the command.
func (c *walListCommand) Run(ctx context.Context, a *app) error {
	archive, err := a.archive(ctx)
	if err != nil {
		return err
	}
	held, err := archive.Coverage(ctx)
	if err != nil {
		return err
	}
	// Without an identity a host knows what is there, and not of when it is. Damage does not keep the list from being
	// printed.
	listed := archive.Times(ctx, &held)
	var unreadable *crypto.IdentityError
	if errors.As(listed, &unreadable) {
		listed = nil
	}
	err = a.print(held, func(w *strings.Builder) {
		for _, t := range held.Timelines {
			fmt.Fprintf(w, "timeline %d: %d segments, %s\n", t.Timeline, t.Segments, size(t.Bytes))
			for _, r := range t.Ranges {
				fmt.Fprintf(w, "  %s to %s", r.First, r.Last)
				if !r.FirstCommit.IsZero() {
					fmt.Fprintf(w, ", commits from %s to %s", r.FirstCommit.Format(time.RFC3339), r.LastCommit.Format(time.RFC3339))
				}
				fmt.Fprintln(w)
			}
			if p := t.Partial; p != nil {
				fmt.Fprintf(w, "  %s up to %s\n", p.Segment, p.End)
			}
			for _, g := range t.Gaps() {
				fmt.Fprintf(w, "  missing: %s to %s\n", g.First, g.Last)
			}
		}
	})
	if listed != nil {
		return listed
	}
	return err
}
