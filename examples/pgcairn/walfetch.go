package main

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// walFetchCommand brings a segment back and, on request, the next ones to this host.
type walFetchCommand struct {
	Socket   string        `placeholder:"PATH" help:"Go by way of the program that serves this Unix socket; nothing else is opened here."`
	Timeout  time.Duration `default:"0s" placeholder:"D" help:"Give up after so long. Default: never."`
	SystemID uint64        `name:"system-id" placeholder:"N" help:"Cluster whose WAL is meant, by its system identifier, where the repository has belonged to several. Default: the one in whose data directory DEST is."`
	Needs    []needed      `placeholder:"FIRST-LAST" help:"Segments that the recovery was planned with: when one of them is missing, that is a failure and not the end of the WAL. May be given several times, as restore --wal command does."`
	Prefetch int           `placeholder:"N" help:"Bring the next segments as well, to the state directory, where the next calls find them."`
	Name     string        `arg:"" help:"Segment, or other file of the archive: %f."`
	Dest     string        `arg:"" help:"Where to put it: %p."`
}

// Run runs the command. Only what the archive itself has answered is a missingError.
func (c *walFetchCommand) Run(ctx context.Context, a *app) error {
	forOneSegment()
	if c.Prefetch < 0 || c.Timeout < 0 {
		return usage("--prefetch and --timeout cannot be negative")
	}
	err := within(ctx, c.Timeout, func(ctx context.Context) error { return c.fetch(ctx, a) })
	var missing *missingError
	if err != nil && !errors.As(err, &missing) {
		return err
	}
	if err != nil {
		return owed(c.Needs, c.Name, missing)
	}
	return a.print(map[string]string{"name": c.Name, "destination": c.Dest}, nil)
}

func (c *walFetchCommand) fetch(ctx context.Context, a *app) error {
	if c.Socket != "" {
		return answered(reach(c.Socket, wal.Client{Socket: c.Socket, SystemID: c.SystemID}.Fetch(ctx, c.Name, c.Dest)))
	}
	if a.several() {
		if c.Prefetch > 0 {
			return usage("--prefetch takes one --repo")
		}
		all, err := a.archives(c.SystemID, &wal.ArchivesOptions{})
		if err != nil {
			return err
		}
		return answered(all.Fetch(ctx, c.Name, c.Dest)) // what hangs is left to the end of the process
	}
	archive, err := a.archiveOf(ctx, c.SystemID)
	if err != nil {
		return err
	}
	if c.Prefetch == 0 {
		return answered(archive.Fetch(ctx, c.Name, c.Dest))
	}
	ahead, err := archive.Prefetch(&wal.PrefetchOptions{Segments: c.Prefetch, Jobs: min(c.Prefetch, 8), Batch: true})
	if err != nil {
		return err
	}
	return errors.Join(answered(ahead.Fetch(ctx, c.Name, c.Dest)), ahead.Close())
}

// answered makes the archive's own answer that it does not hold a file a missingError.
func answered(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &missingError{err}
	}
	return err
}
