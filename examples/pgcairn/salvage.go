package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore/salvage"
)

// salvageCommand brings tables back.
type salvageCommand struct {
	target
	Database string   `arg:"" help:"Database that the tables are in, by the name that it had when the backup was taken."`
	Tables   []string `arg:"" name:"table" help:"Table, as SCHEMA.TABLE, by the name that it has at the target; case matters, and what has a dot stands between double quotes."`
	Output   string   `short:"o" required:"" placeholder:"FILE" help:"File to write an archive for pg_restore to, which is not there yet; - is stdout, and the report goes to stderr."`
	PgBin    string   `name:"pgbin" placeholder:"DIR" help:"Directory of PostgreSQL's programs, pg_dump among them. Default: where they are usually found."`
	Role     string   `default:"postgres" placeholder:"NAME" help:"Superuser to read the tables as."`
	Scratch  string   `placeholder:"DIR" help:"Directory to restore into; it is made, or empty, and what a killed one has left in it is cleared. Default: a new one for temporary files."`
	OSUser   string   `name:"os-user" placeholder:"NAME" help:"User to run the server as; root has to give one."`
	Preload  string   `placeholder:"LIBRARIES" help:"shared_preload_libraries of the server. Default: none."`
}

// Run runs the command. The report is printed whatever it says.
func (c *salvageCommand) Run(ctx context.Context, a *app) (err error) {
	to, err := c.target.target()
	if err != nil {
		return err
	}
	o := &salvage.Options{
		Dir: c.Scratch, BinDir: c.PgBin, User: c.OSUser, Role: c.Role, Preload: c.Preload,
		Progress: a.meter().restore(), Began: a.meter().phases("salvage"), Logger: a.logger(),
	}
	if o.Plan, err = c.options(); err != nil {
		return err
	}
	var tables []salvage.Table
	for _, name := range c.Tables {
		t, err := salvage.ParseTable(name)
		if err != nil {
			return &usageError{err}
		}
		tables = append(tables, t)
	}
	var fetched atomic.Int64
	r, err := a.repository(ctx, func(op repo.Op) {
		if op.Name == "open" {
			fetched.Add(op.Bytes)
		}
	})
	if err != nil {
		return err
	}
	out, err := c.create()
	if err != nil {
		return err
	}
	o.Dump = out
	report, failed := salvage.Run(ctx, r, to, c.Database, tables, o)
	if err := c.finish(out, failed == nil); err != nil {
		failed = errors.Join(failed, err)
	}
	a.screen.done()
	err = c.print(a, report, fetched.Load())
	if failed != nil {
		return failed
	}
	return err
}

const toStdout = "-"

// create makes the file to write to.
func (c *salvageCommand) create() (*os.File, error) {
	if c.Output == toStdout {
		return os.Stdout, nil
	}
	return os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// finish makes the file durable, or removes it.
func (c *salvageCommand) finish(out *os.File, ok bool) error {
	if c.Output == toStdout {
		return nil
	}
	if !ok {
		return errors.Join(out.Close(), os.Remove(c.Output))
	}
	return errors.Join(out.Sync(), out.Close())
}

// print prints the report, with how many bytes were fetched, where the archive does not go.
func (c *salvageCommand) print(a *app, report *salvage.Report, fetched int64) error {
	where := *a
	if c.Output == toStdout {
		where.stdout = a.screen
	}
	doc := map[string]any{}
	b, err := json.Marshal(report)
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	doc["fetched_bytes"] = fetched
	return where.print(doc, func(w *strings.Builder) {
		fmt.Fprintf(w, "%s  %-10s %s with the WAL\n", report, "fetched", size(fetched))
	})
}
