package main

import (
	"context"
	"fmt"
	"strings"
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
	return a.print(held, func(w *strings.Builder) {
		for _, t := range held.Timelines {
			fmt.Fprintf(w, "timeline %d: %d segments, %s\n", t.Timeline, t.Segments, size(t.Bytes))
			for _, r := range t.Ranges {
				fmt.Fprintf(w, "  %s to %s\n", r.First, r.Last)
			}
			if p := t.Partial; p != nil {
				fmt.Fprintf(w, "  %s up to %s\n", p.Segment, p.End)
			}
			for _, g := range t.Gaps() {
				fmt.Fprintf(w, "  missing: %s to %s\n", g.First, g.Last)
			}
		}
	})
}
