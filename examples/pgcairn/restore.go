package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/restore"
)

// restoreCommand restores a backup.
type restoreCommand struct {
	Dir string `arg:"" help:"Directory to restore into; it is made, or empty, or what a restore that was killed has left."`
	target
	Delta       bool              `help:"Restore over the data directory that is there: fetch what differs, remove what does not belong."`
	Overwrite   bool              `help:"With --delta, whatever is there, even if it is of another cluster or no data directory."`
	Tablespaces map[string]string `name:"tablespace" mapsep:"none" placeholder:"NAME=DIR" help:"Where a tablespace goes; repeatable."`
	InPlace     bool              `name:"tablespaces-in-place" help:"Keep the other tablespaces within the data directory."`
	WALDir      string            `name:"waldir" placeholder:"DIR" help:"Where pg_wal goes; it is made, or empty."`
	Databases   []string          `name:"only-database" sep:"none" placeholder:"NAME" help:"Database to restore; repeatable. The files of others are there, but zero: drop them. Default: all."`
	WAL         string            `name:"wal" enum:"staged,command" default:"staged" help:"How PostgreSQL gets the WAL: ${enum}."`
	Action      string            `enum:"promote,pause,shutdown" default:"promote" help:"What PostgreSQL does at the target: ${enum}."`
	standby
	DryRun bool `help:"Print the plan, and touch nothing."`
}

// standby are the flags that make a standby.
type standby struct {
	Standby         bool   `help:"Restore as a standby."`
	PrimaryConnInfo string `name:"primary-conninfo" placeholder:"DSN" help:"How the standby connects to its primary. Keep a password in the server's ~/.pgpass."`
	PrimarySlot     string `placeholder:"NAME" help:"Physical replication slot on the primary, by which the standby streams; it has to exist."`
}

// standbyOptions returns the library's options for a standby, or nil.
func (c *restoreCommand) standbyOptions() (*restore.Standby, error) {
	if !c.Standby {
		if c.PrimaryConnInfo != "" || c.PrimarySlot != "" {
			return nil, usage("--primary-conninfo and --primary-slot are for --standby")
		}
		return nil, nil
	}
	if c.Time != nil || c.LSN != nil || c.XID != nil || c.Name != nil {
		return nil, usage("--standby goes on until it is promoted: of targets, it allows --to-immediate only, which brings no more WAL than the backup needs")
	}
	if c.Action != string(restore.Promote) {
		return nil, usage("--standby has no --action: it goes on until it is promoted")
	}
	return &restore.Standby{PrimaryConnInfo: c.PrimaryConnInfo, Slot: c.PrimarySlot}, nil
}

// Run runs the command.
func (c *restoreCommand) Run(ctx context.Context, a *app) error {
	if c.Overwrite && !c.Delta {
		return usage("--overwrite needs --delta")
	}
	follow, err := c.standbyOptions()
	if err != nil {
		return err
	}
	o := &restore.Options{
		Delta: c.Delta, Overwrite: c.Overwrite, Tablespaces: c.Tablespaces, TablespacesInPlace: c.InPlace, WALDirectory: c.WALDir, Databases: c.Databases, Standby: follow,
		Progress: a.meter().restore(), Logger: a.logger(),
	}
	if follow == nil {
		o.Action = restore.Action(c.Action)
	}
	r, p, err := c.prepare(ctx, a, false)
	if err != nil {
		return err
	}
	if c.WAL == "command" {
		if o.RestoreCommand, err = fetchCommand(a, p, follow != nil); err != nil {
			return err
		}
	}
	if c.DryRun {
		dir, err := filepath.Abs(c.Dir)
		if err != nil {
			return err
		}
		return a.print(&restore.Result{Plan: p, Directory: dir}, func(w *strings.Builder) { fmt.Fprint(w, p) })
	}
	result, err := p.Run(ctx, r, c.Dir, o)
	if err != nil {
		return err
	}
	a.screen.done()
	return a.print(result, func(w *strings.Builder) {
		fmt.Fprint(w, p)
		fmt.Fprintf(w, "restored %s into %s in %.1f s\n", size(result.RestoredBytes), result.Directory, result.Took.Seconds())
		if result.ReusedBytes > 0 {
			fmt.Fprintf(w, "%s were right already\n", size(result.ReusedBytes))
		}
		for _, warning := range result.Warnings {
			fmt.Fprintf(w, "warning: %s\n", warning)
		}
		if os.Geteuid() == 0 {
			fmt.Fprintln(w, "it belongs to root: give it, and what pg_wal and pg_tblspc link to, to the user that runs PostgreSQL (chown -R)")
		}
	})
}

// fetchCommand is the restore_command that calls this program again, with the same repositories and identities, for
// the WAL of one cluster. What the plan takes must not have gone by then, or recovery would end early.
func fetchCommand(a *app, p *restore.Plan, standby bool) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	args := []string{self}
	for _, location := range a.locations {
		where, err := parseLocation(location)
		if err != nil {
			return "", err
		}
		args = append(args, "--repo", where.String())
	}
	for _, id := range a.common.identityFiles() {
		abs, err := filepath.Abs(id)
		if err != nil {
			return "", err
		}
		args = append(args, "--identity", abs)
	}
	args = append(args, "wal", "fetch", "--system-id", strconv.FormatUint(p.Backup.SystemID, 10))
	if !standby { // which streams what the archive does not have
		args = append(args, needs(p.WAL)...)
	}
	return restore.Command(args...) + " %f %p", nil
}
