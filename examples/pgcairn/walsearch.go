package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
)

// walSearchCommand finds what the cluster did.
type walSearchCommand struct {
	From     *timeFlag       `placeholder:"T" help:"Not before this time: RFC 3339, or as PostgreSQL prints it."`
	To       *timeFlag       `placeholder:"T" help:"Not after this time."`
	SystemID uint64          `name:"system-id" placeholder:"N" help:"Cluster whose WAL is searched, by its system identifier. Default: the one that the repository belongs to."`
	Kind     []wal.EventKind `enum:"commit,drop,truncate,restore-point" default:"commit,drop,truncate,restore-point" help:"What to look for: commit, drop, truncate or restore-point."`
}

// eventDoc is an event as it is printed.
type eventDoc struct {
	wal.Event
	Relations []relationDoc `json:"relations,omitempty"`
}

// relationDoc is a relation, with its name where a backup knows it.
type relationDoc struct {
	wal.Relation
	Name string `json:"name,omitempty"`
}

func newEventDoc(ctx context.Context, namer *backup.Namer, e wal.Event) (eventDoc, error) {
	doc := eventDoc{Event: e}
	for _, r := range e.Relations {
		known, ok, err := namer.Name(ctx, e.LSN, r)
		if err != nil {
			return doc, err
		}
		named := relationDoc{Relation: r}
		if ok {
			named.Name = known.Schema + "." + known.Name
		}
		doc.Relations = append(doc.Relations, named)
	}
	return doc, nil
}

// Run runs the command.
func (c *walSearchCommand) Run(ctx context.Context, a *app) error {
	archive, err := a.archiveOf(ctx, c.SystemID)
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
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	namer, err := backup.NewNamer(ctx, r, &backup.NamerOptions{SystemID: c.SystemID})
	if err != nil {
		return err
	}
	found := struct {
		Events []eventDoc `json:"events"`
	}{[]eventDoc{}}
	for e, err := range archive.Search(ctx, q) {
		if err != nil {
			return err
		}
		doc, err := newEventDoc(ctx, namer, e)
		if err != nil {
			return err
		}
		found.Events = append(found.Events, doc)
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
				if r.Name != "" {
					fmt.Fprintf(w, ", %s", r.Name)
				} else {
					fmt.Fprintf(w, ", %s", r.Relation)
				}
			}
			fmt.Fprintln(w)
		}
	})
}
