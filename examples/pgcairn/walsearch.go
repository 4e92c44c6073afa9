package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// walSearchCommand finds what the cluster did.
type walSearchCommand struct {
	From *timeFlag       `placeholder:"T" help:"Not before this time: RFC 3339, or as PostgreSQL prints it."`
	To   *timeFlag       `placeholder:"T" help:"Not after this time."`
	Kind []wal.EventKind `enum:"commit,drop,truncate,restore-point" default:"commit,drop,truncate,restore-point" help:"What to look for: commit, drop, truncate or restore-point."`
}

// Run runs the command.
func (c *walSearchCommand) Run(ctx context.Context, a *app) error {
	archive, err := a.archive(ctx)
	if err != nil {
		return err
	}
	q := wal.Query{Kinds: c.Kind}
	if c.From != nil {
		q.From = c.From.Time
	}
	if c.To != nil {
		q.To = c.To.Time
	}
	found := struct {
		Events []wal.Event `json:"events"`
	}{[]wal.Event{}}
	for e, err := range archive.Search(ctx, q) {
		if err != nil {
			return err
		}
		found.Events = append(found.Events, e)
	}
	return a.print(found, func(w *strings.Builder) {
		for _, e := range found.Events {
			fmt.Fprintf(w, "%-13s timeline %d, %s (just before: %s)", e.Kind, e.Timeline, e.LSN, e.Prev)
			if !e.Time.IsZero() {
				fmt.Fprintf(w, ", %s", e.Time.Format(time.RFC3339Nano))
			}
			if e.XID != 0 {
				fmt.Fprintf(w, ", transaction %d", e.XID)
			}
			if e.Name != "" {
				fmt.Fprintf(w, ", %s", e.Name)
			}
			for _, r := range e.Relations {
				fmt.Fprintf(w, ", %s", r)
			}
			fmt.Fprintln(w)
		}
	})
}
