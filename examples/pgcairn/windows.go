package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// windowsCommand says what can be recovered.
type windowsCommand struct {
	SystemID uint64 `name:"system-id" placeholder:"ID" help:"System identifier of the cluster, where the repository has belonged to several. Default: the one it belongs to."`
}

// windowsDoc is what the command prints.
type windowsDoc struct {
	Windows []restore.Window `json:"windows"`
	Gaps    []wal.Range      `json:"gaps"`
}

// Run runs the command. Damage does not keep the rest from being printed.
func (c *windowsCommand) Run(ctx context.Context, a *app) error {
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	all, listed := backup.List(ctx, r)
	if all == nil && listed != nil {
		return listed
	}
	held, err := coverage(ctx, a, c.SystemID)
	if err != nil && held.System.ID == 0 {
		return err
	}
	listed = errors.Join(listed, err)
	doc := windowsDoc{Windows: append([]restore.Window{}, restore.Windows(all, held)...), Gaps: append([]wal.Range{}, held.Gaps()...)}
	err = a.print(doc, func(w *strings.Builder) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "TIMELINE\tFROM\tTO\tFROM LSN\tTO LSN\tBACKUP\t")
		for _, x := range doc.Windows {
			_, _ = fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t\n", x.Timeline, moment(x.FromTime), moment(x.ToTime), x.FromLSN, x.ToLSN, x.Backup)
		}
		_ = t.Flush()
		for _, g := range doc.Gaps {
			fmt.Fprintf(w, "missing: %s to %s\n", g.First, g.Last)
		}
	})
	if listed != nil {
		return listed
	}
	return err
}
