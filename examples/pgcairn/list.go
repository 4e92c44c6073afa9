package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/pgcairn/pgcairn/backup"
)

// listCommand lists backups.
type listCommand struct{}

// Run runs the command. A backup whose manifest is corrupt does not keep the others from being listed.
func (c *listCommand) Run(ctx context.Context, a *app) error {
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	all, listed := backup.List(ctx, r)
	if all == nil && listed != nil {
		return listed
	}
	docs := make([]summaryDoc, len(all))
	for i, s := range all {
		docs[i] = newSummaryDoc(s)
	}
	err = a.print(map[string]any{"backups": docs}, func(w *strings.Builder) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "BACKUP\tTYPE\tPOSTGRESQL\tTIMELINE\tSTOPPED\tSTOP LSN\tSIZE\tSTORED\tPINNED\t")
		for _, d := range docs {
			_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", d.ID, d.Type, pgVersion(d.PGVersion), d.Timeline,
				moment(d.StoppedAt), d.StopLSN, size(d.ClusterBytes), size(d.StoredBytes), map[bool]string{true: "pinned"}[d.Pinned])
		}
		_ = t.Flush()
	})
	if listed != nil {
		return listed
	}
	return err
}
