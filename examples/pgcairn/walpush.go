package main

import (
	"context"
	"path/filepath"
)

// walPushCommand archives a segment.
type walPushCommand struct {
	Path string `arg:"" help:"Segment, or other file of pg_wal: %p."`
}

// Run runs the command. It says nothing when it succeeds, as its output would go to the server's log.
func (c *walPushCommand) Run(ctx context.Context, a *app) error {
	forOneSegment()
	archive, err := a.archive(ctx)
	if err != nil {
		return err
	}
	if err := archive.Push(ctx, c.Path); err != nil {
		return err
	}
	return a.print(map[string]string{"name": filepath.Base(c.Path)}, nil)
}
