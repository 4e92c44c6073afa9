package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// walListCommand lists what the archive holds.
type walListCommand struct{}

// walListDoc is what the command prints.
type walListDoc struct {
	SystemID  *uint64                `json:"system_id,string"` // nil: nothing was archived yet
	Timelines []wal.TimelineCoverage `json:"timelines"`
	// What it holds of clusters that the repository has belonged to before, the latest first.
	Earlier []wal.Coverage `json:"earlier,omitempty"`
}

// Run runs the command. Damage does not keep the list from being printed.
func (c *walListCommand) Run(ctx context.Context, a *app) error {
	archive, err := a.archive(ctx)
	if err != nil {
		return err
	}
	systems, err := archive.Systems(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var listed error
	held := make([]wal.Coverage, max(1, len(systems))) // the latest first
	for i, s := range systems {
		at := len(systems) - 1 - i
		if held[at], err = coverage(ctx, a, s.ID); err != nil {
			if held[at].System.ID == 0 {
				return err
			}
			listed = errors.Join(listed, err)
		}
	}
	doc := walListDoc{Timelines: append([]wal.TimelineCoverage{}, held[0].Timelines...), Earlier: held[1:]}
	if len(systems) > 0 {
		doc.SystemID = &held[0].System.ID
	}
	err = a.print(doc, func(w *strings.Builder) {
		printCoverage(w, held[0])
		for _, h := range doc.Earlier {
			fmt.Fprintf(w, "before, of system identifier %d:\n", h.System.ID)
			printCoverage(w, h)
		}
	})
	if listed != nil {
		return listed
	}
	return err
}

// coverage is what is held of a cluster, also when the error is that not everything could be told of it.
func coverage(ctx context.Context, a *app, systemID uint64) (wal.Coverage, error) {
	archive, err := a.archiveOf(ctx, systemID)
	if err != nil {
		return wal.Coverage{}, err
	}
	held, err := archive.Coverage(ctx)
	if err != nil {
		return wal.Coverage{}, err
	}
	err = archive.Times(ctx, &held)
	// Without an identity a host knows what is there, and not of when it is.
	var unreadable *crypto.IdentityError
	var damaged *repo.CorruptError
	if errors.As(err, &unreadable) && !errors.As(err, &damaged) {
		err = nil
	}
	return held, err
}

func printCoverage(w *strings.Builder, held wal.Coverage) {
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
}
