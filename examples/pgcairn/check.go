package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
)

// checkCommand proves the road end to end.
type checkCommand struct {
	server

	Source string        `enum:"dir,sql,replication," default:"" help:"How backups will read: dir, sql, replication. With sql the role has to be permitted to read files, with replication to replicate, and else neither."`
	Wait   time.Duration `default:"1m" help:"How long a segment may take to be archived."`
}

// Run runs the command.
func (c *checkCommand) Run(ctx context.Context, a *app) error {
	if err := a.onlyOne("check"); err != nil {
		return err
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	report, failed := backup.Check(ctx, r, c.DSN, &backup.CheckOptions{
		Wait: c.Wait, SQL: c.Source == "sql", Replication: c.Source == "replication", MustRead: len(a.common.Identities) > 0, Logger: a.logger(),
	})
	err = a.print(report, func(w *strings.Builder) {
		for _, s := range report.Steps {
			verdict := "ok"
			if s.Skipped {
				verdict = "--"
			} else if !s.OK {
				verdict = "FAILED"
			}
			fmt.Fprintf(w, "%-8s %-6s %s\n", s.Name, verdict, s.Detail)
		}
	})
	if failed != nil {
		return failed
	}
	return err
}
