package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/retention"
)

// expireCommand deletes what a policy does not keep.
type expireCommand struct {
	KeepLast    int            `placeholder:"N" help:"Keep that many of the newest backups."`
	KeepFull    int            `placeholder:"N" help:"Keep that many of the newest full backups, and all that ended after the oldest of them."`
	KeepDiff    int            `placeholder:"N" help:"Of what --keep-full keeps, keep that many of the newest full and differential backups, with what was built on them."`
	KeepHourly  int            `placeholder:"N" help:"Keep the newest backup of each of that many hours."`
	KeepDaily   int            `placeholder:"N" help:"Likewise, of days."`
	KeepWeekly  int            `placeholder:"N" help:"Likewise, of ISO weeks."`
	KeepMonthly int            `placeholder:"N" help:"Likewise, of months."`
	KeepYearly  int            `placeholder:"N" help:"Likewise, of years."`
	KeepWithin  days           `placeholder:"D" help:"Keep the backups of that long, such as 30d, 2w or 36h."`
	Window      days           `placeholder:"D" help:"Keep what it takes to recover to any moment of that long."`
	KeepWAL     days           `name:"keep-wal" placeholder:"D" help:"Keep the WAL of that long. Default: as long as backups."`
	TimeZone    retention.Zone `placeholder:"ZONE" help:"Time zone of the calendar. Default: UTC."`
	OrphanGrace days           `default:"24h" placeholder:"D" help:"Keep what killed backups have left for that long, for the next ones to take over. Default: ${default}."`
	GiveUp      []string       `placeholder:"ID" help:"Delete that backup, whose manifest cannot be read and never will be; repeatable."`
	DryRun      bool           `help:"Delete nothing, and say what would be."`
}

func (c *expireCommand) policy() retention.Policy {
	return retention.Policy{
		KeepLast: c.KeepLast, KeepFull: c.KeepFull, KeepDifferential: c.KeepDiff, KeepHourly: c.KeepHourly, KeepDaily: c.KeepDaily,
		KeepWeekly: c.KeepWeekly, KeepMonthly: c.KeepMonthly, KeepYearly: c.KeepYearly, Zone: c.TimeZone,
		KeepWithin: time.Duration(c.KeepWithin), Window: time.Duration(c.Window), KeepWAL: time.Duration(c.KeepWAL),
	}
}

// expireDoc is what the command prints.
type expireDoc struct {
	Keep       []retention.Verdict  `json:"keep"`
	Drop       []retention.Verdict  `json:"drop"`
	WALFloor   []retention.Floor    `json:"wal_floor"`
	FreedBytes int64                `json:"freed_bytes"`
	DryRun     bool                 `json:"dry_run"`
	Delete     []retention.Deletion `json:"delete"`
	Refused    []retention.Refusal  `json:"refused"`
	Postponed  string               `json:"postponed,omitempty"`
}

// Run runs the command.
func (c *expireCommand) Run(ctx context.Context, a *app) error {
	if err := a.onlyOne("expire"); err != nil {
		return err
	}
	policy := c.policy()
	if err := policy.Validate(); err != nil {
		return &usageError{err}
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	o := &retention.Options{OrphanGrace: time.Duration(c.OrphanGrace), Logger: a.logger()}
	for _, text := range c.GiveUp {
		id, err := backup.ParseID(text)
		if err != nil {
			return &usageError{err}
		}
		o.GiveUp = append(o.GiveUp, id)
	}
	plan, err := retention.NewPlan(ctx, r, policy, o)
	if err != nil {
		return err
	}
	doc := expireDoc{
		Keep: plan.Keep, Drop: plan.Drop, WALFloor: plan.Floors, FreedBytes: plan.Bytes(), DryRun: c.DryRun,
		Delete: plan.Delete, Refused: []retention.Refusal{},
	}
	var failed error
	if !c.DryRun {
		var done *retention.Result
		if done, failed = plan.Apply(ctx, r); failed != nil && len(done.Deleted) == 0 {
			return failed
		}
		doc.FreedBytes, doc.Delete, doc.Refused, doc.Postponed = done.FreedBytes, done.Deleted, done.Refused, done.Postponed
	}
	err = a.print(doc, func(w *strings.Builder) { doc.print(w, plan) })
	if failed != nil {
		return failed
	}
	return err
}

func (d *expireDoc) print(w *strings.Builder, plan *retention.Plan) {
	w.WriteString(plan.String())
	if d.DryRun {
		fmt.Fprintf(w, "nothing was deleted; it would free %s\n", size(d.FreedBytes))
		return
	}
	for _, r := range d.Refused {
		fmt.Fprintf(w, "not deleted: %s\n", r.Reason)
	}
	if d.Postponed != "" {
		fmt.Fprintf(w, "postponed: %s\n", d.Postponed)
	}
	fmt.Fprintf(w, "freed %s\n", size(d.FreedBytes))
}

// pinCommand keeps a backup from being dropped.
type pinCommand struct {
	ID string `arg:"" help:"Backup, as listed."`
}

// Run runs the command.
func (c *pinCommand) Run(ctx context.Context, a *app) error { return a.pin(ctx, c.ID, true) }

// unpinCommand is the reverse of pinCommand.
type unpinCommand struct {
	ID string `arg:"" help:"Backup, as listed."`
}

// Run runs the command.
func (c *unpinCommand) Run(ctx context.Context, a *app) error { return a.pin(ctx, c.ID, false) }

func (a *app) pin(ctx context.Context, text string, pinned bool) error {
	if err := a.onlyOne("pin"); err != nil {
		return err
	}
	id, err := backup.ParseID(text)
	if err != nil {
		return &usageError{err}
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	do := backup.Unpin
	if pinned {
		do = backup.Pin
	}
	if err := do(ctx, r, id); err != nil {
		return missingBackup(err)
	}
	return a.print(map[string]any{"id": id, "pinned": pinned}, func(w *strings.Builder) { fmt.Fprintf(w, "%s: pinned %t\n", id, pinned) })
}
