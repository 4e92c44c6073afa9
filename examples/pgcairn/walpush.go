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
	Durable int           `placeholder:"N" help:"Of several repositories, how many must have the file before PostgreSQL is told so. Default: all."`
	Lag     time.Duration `default:"5s" placeholder:"D" help:"How long the others are waited for then; 0s: not at all."`
	Path    string        `arg:"" help:"Segment, or other file of pg_wal: %p."`
}

// pushedDoc is what the command prints with --json.
type pushedDoc struct {
	Name string `json:"name"`
	// What was archived besides, and what is left of the backlog.
	Ahead []string `json:"ahead,omitempty"`
	Left  int      `json:"left,omitempty"`

	// Of several repositories, what became of each.
	Repositories []pushedTo `json:"repositories,omitempty"`
}

// pushedTo is what became of a file in one of several repositories.
type pushedTo struct {
	Repo    string   `json:"repo"`
	Durable bool     `json:"durable"`
	Error   string   `json:"error,omitempty"`
	Ahead   []string `json:"ahead,omitempty"`
	Left    int      `json:"left,omitempty"`
}

func (d *pushedDoc) add(p *wal.Pushed) { d.Ahead, d.Left = ahead(p), p.Left }

// ahead are the files that were archived besides; the first is the one asked for.
func ahead(p *wal.Pushed) (names []string) {
	for _, f := range p.Files[1:] {
		if f.Err == nil {
			names = append(names, f.Name)
		}
	}
	return names
}

// pushToAll archives in several repositories.
func (c *walPushCommand) pushToAll(ctx context.Context, a *app, doc *pushedDoc) error {
	lag := c.Lag
	if lag == 0 {
		lag = -1
	}
	all, err := a.archives(0, &wal.ArchivesOptions{Durable: c.Durable, Lag: lag})
	if err != nil {
		return err
	}
	pushed, err := all.PushAsked(ctx, c.Path, &wal.ReadyOptions{Jobs: c.Jobs}) // what hangs is left to the end of the process
	for _, m := range pushed {
		to := pushedTo{Repo: m.Name, Durable: m.Err == nil}
		if m.Err != nil {
			to.Error = m.Err.Error()
		}
		if m.Pushed != nil {
			to.Ahead, to.Left = ahead(m.Pushed), m.Pushed.Left
		}
		doc.Repositories = append(doc.Repositories, to)
	}
	return err
}

// Run runs the command. It says nothing when it succeeds, as its output would go to the server's log.
func (c *walPushCommand) Run(ctx context.Context, a *app) error {
	forOneSegment()
	if c.Jobs < 0 || c.Timeout < 0 || c.Lag < 0 {
		return usage("--jobs, --timeout and --lag cannot be negative")
	}
	if c.Durable < 0 || c.Durable > len(a.locations) {
		return usage("--durable cannot be more than there are repositories")
	}
	doc := pushedDoc{Name: filepath.Base(c.Path)}
	err := within(ctx, c.Timeout, func(ctx context.Context) error {
		if c.Socket != "" {
			return reach(c.Socket, wal.Client{Socket: c.Socket}.Push(ctx, c.Path))
		}
		if a.several() {
			return c.pushToAll(ctx, a, &doc)
		}
		archive, err := a.archive(ctx)
		if err != nil {
			return err
		}
		pushed, err := archive.PushAsked(ctx, c.Path, &wal.ReadyOptions{Jobs: c.Jobs})
		doc.add(pushed)
		return err
	})
	if err != nil {
		return err
	}
	return a.print(doc, nil)
}
