package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/restore/health"
)

// statusCommand says how the repository is: a gate for CI and cron.
type statusCommand struct {
	MaxBackupAge days `placeholder:"D" help:"Fail when the newest backup that can be restored is older, as 26h."`
	MaxWALLag    days `name:"max-wal-lag" placeholder:"D" help:"Fail when the last WAL was archived longer ago, as 10m."`
	MaxVerifyAge days `placeholder:"D" help:"Fail when all was verified longer ago, as 168h, whether or not content was read."`
	MaxReadAge   days `placeholder:"D" help:"Fail when all content was verified (verify --read-data) longer ago, as 30d."`
}

// unhealthyError means that the status has problems, which were printed.
type unhealthyError struct{ problems int }

func (e *unhealthyError) Error() string {
	if e.problems == 1 {
		return "the repository has a problem"
	}
	return fmt.Sprintf("the repository has %d problems", e.problems)
}

// Run runs the command.
func (c *statusCommand) Run(ctx context.Context, a *app) error {
	if err := a.onlyOne("status"); err != nil {
		return err
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	s, err := health.Check(ctx, r, &health.Options{
		MaxBackupAge: time.Duration(c.MaxBackupAge), MaxWALLag: time.Duration(c.MaxWALLag),
		MaxVerifyAge: time.Duration(c.MaxVerifyAge), MaxReadAge: time.Duration(c.MaxReadAge),
	})
	if err != nil {
		return err
	}
	if err := a.print(s, func(w *strings.Builder) { printStatus(w, s) }); err != nil {
		return err
	}
	if !s.OK {
		return &unhealthyError{len(s.Problems)}
	}
	return nil
}

func printStatus(w *strings.Builder, s *health.Status) {
	if b := s.NewestBackup; b != nil {
		fmt.Fprintf(w, "newest backup: %s, %s, %s ago; of %d\n", b.ID, b.Type, ago(b.AgeSeconds), s.Backups)
	} else {
		fmt.Fprintln(w, "newest backup: none that can be restored")
	}
	if s.WAL.LagSeconds != nil {
		fmt.Fprintf(w, "WAL: to %s of timeline %d, archived %s ago\n", s.WAL.EndLSN, s.WAL.Timeline, ago(*s.WAL.LagSeconds))
	}
	for _, g := range s.WAL.Gaps {
		fmt.Fprintf(w, "missing: %s to %s\n", g.First, g.Last)
	}
	for _, x := range s.Windows {
		fmt.Fprintf(w, "can be recovered: timeline %d from %s to %s\n", x.Timeline, x.FromLSN, x.ToLSN)
	}
	if s.LastVerify != nil {
		fmt.Fprintf(w, "verified: %s ago\n", ago(s.LastVerify.AgeSeconds))
	}
	if s.LastDrill != nil {
		fmt.Fprintf(w, "drilled: %s ago\n", ago(s.LastDrill.AgeSeconds))
	}
	fmt.Fprintf(w, "stored: %s; in %s, %s by backups and about %s by WAL\n", size(s.StoredBytes), ago(s.Growth.Seconds), size(s.Growth.BackupBytes), size(s.Growth.WALBytes))
	if s.Space != nil {
		fmt.Fprintf(w, "free: %s of %s\n", size(s.Space.Free), size(s.Space.Total))
	}
	for _, l := range s.Leases {
		fmt.Fprintf(w, "lease %s: held by process %d on %s\n", l.Name, l.PID, l.Host)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "problem: %s\n", oneLine(p.Text))
	}
}

// ago gives an age in seconds for people.
func ago(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
