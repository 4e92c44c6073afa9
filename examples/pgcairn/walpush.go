package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// walPushCommand archives a segment, and in a backlog the ready files beside it.
type walPushCommand struct {
	Socket  string        `placeholder:"PATH" help:"Go by way of the program that serves this Unix socket; nothing else is opened here."`
	Timeout time.Duration `default:"10m" placeholder:"D" help:"Give up after so long; 0s: never."`
	Jobs    int           `placeholder:"N" help:"Files of a backlog that are archived at a time. Default: 8."`
	Path    string        `arg:"" help:"Segment, or other file of pg_wal: %p."`
}

// pushedDoc is what the command prints with --json.
type pushedDoc struct {
	Name string `json:"name"`
	// What was archived besides, and what is left of the backlog.
	Ahead []string `json:"ahead,omitempty"`
	Left  int      `json:"left,omitempty"`
}

// Run runs the command. It says nothing when it succeeds, as its output would go to the server's log.
func (c *walPushCommand) Run(ctx context.Context, a *app) error {
	forOneSegment()
	if c.Jobs < 0 || c.Timeout < 0 {
		return usage("--jobs and --timeout cannot be negative")
	}
	doc := pushedDoc{Name: filepath.Base(c.Path)}
	err := within(ctx, c.Timeout, func(ctx context.Context) error {
		if c.Socket != "" {
			return reach(c.Socket, wal.Client{Socket: c.Socket}.Push(ctx, c.Path))
		}
		archive, err := a.archive(ctx)
		if err != nil {
			return err
		}
		pushed, err := archive.PushAsked(ctx, c.Path, &wal.ReadyOptions{Jobs: c.Jobs})
		for _, f := range pushed.Files[1:] { // the first is the one asked for
			if f.Err == nil {
				doc.Ahead = append(doc.Ahead, f.Name)
			}
		}
		doc.Left = pushed.Left
		return err
	})
	if err != nil {
		return err
	}
	return a.print(doc, nil)
}
