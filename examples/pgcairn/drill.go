package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
)

// drillCommand proves that a recovery would work.
type drillCommand struct {
	target
	PgBin     string   `name:"pgbin" placeholder:"DIR" help:"Directory of PostgreSQL's programs. Default: where they are usually found."`
	Checks    []string `name:"check" sep:"none" placeholder:"SQL" help:"Query that has to yield rows and, where its first column is a boolean, nothing but true; repeatable."`
	Database  string   `placeholder:"NAME" help:"Database to make the checks in. Default: PGDATABASE, or postgres."`
	Role      string   `default:"postgres" placeholder:"NAME" help:"Superuser to make the checks as."`
	Amcheck   string   `enum:",indexes,heap-all-indexed" default:"" help:"Check all B-tree indexes by amcheck: indexes, or heap-all-indexed to read the tables as well."`
	Checksums bool     `help:"Read all pages by pg_checksums, where the cluster has data checksums."`
	Random    string   `enum:",backup,moment" default:"" help:"Drill to a random target: the end of a backup, or a moment."`
	Scratch   string   `placeholder:"DIR" help:"Directory to restore into; it is made, or empty, and what a killed drill has left in it is cleared. Default: a new one for temporary files."`
	OSUser    string   `name:"os-user" placeholder:"NAME" help:"User to run the server as; root has to give one."`
	Preload   string   `placeholder:"LIBRARIES" help:"shared_preload_libraries of the server. Default: none."`
}

// Run runs the command. The report is printed whatever it says.
func (c *drillCommand) Run(ctx context.Context, a *app) error {
	to, err := c.target.target()
	if err != nil {
		return err
	}
	o := &drill.Options{
		Restore: &restore.Options{Progress: a.meter().restore(), Logger: a.logger()}, Dir: c.Scratch, BinDir: c.PgBin, User: c.OSUser,
		Role: c.Role, Preload: c.Preload, Amcheck: drill.Amcheck(c.Amcheck), Checksums: c.Checksums, Receipt: true, Began: a.meter().phases("drill"), Logger: a.logger(),
	}
	if o.Plan, err = c.options(); err != nil {
		return err
	}
	if c.Random != "" && (to != restore.Latest() || c.Backup != "" || c.Timeline != "latest") {
		return usage("--random chooses target, backup and timeline by itself")
	}
	if c.Database == "" {
		c.Database = os.Getenv("PGDATABASE")
	}
	for _, sql := range c.Checks {
		o.Checks = append(o.Checks, drill.Check{SQL: sql, Database: c.Database})
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	if c.Random != "" {
		if to, o.Plan, err = c.choose(ctx, a, r); err != nil {
			return err
		}
	}
	report, failed := drill.Run(ctx, r, to, o)
	a.screen.done()
	err = a.print(report, func(w *strings.Builder) { fmt.Fprint(w, report) })
	if failed != nil {
		return failed
	}
	return err
}

// choose chooses what to drill.
func (c *drillCommand) choose(ctx context.Context, a *app, r *repo.Repo) (restore.Target, *restore.PlanOptions, error) {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) //nolint:gosec // nobody's secret
	all, err := backup.List(ctx, r)
	if all == nil && err != nil {
		return restore.Target{}, nil, err
	}
	if c.Random == "backup" {
		return drill.RandomBackup(all, random)
	}
	held, err := coverage(ctx, a, c.SystemID)
	if err != nil {
		return restore.Target{}, nil, err
	}
	return drill.RandomMoment(all, held, random)
}
