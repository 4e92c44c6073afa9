package main

import (
	"context"
	"errors"
	"io/fs"
)

// walFetchCommand brings a segment back.
type walFetchCommand struct {
	Name string `arg:"" help:"Segment, or other file of the archive: %f."`
	Dest string `arg:"" help:"Where to put it: %p."`
}

// Run runs the command. Only what the archive itself has answered is a missingError.
func (c *walFetchCommand) Run(ctx context.Context, a *app) error {
	forOneSegment()
	archive, err := a.archive(ctx)
	if err != nil {
		return err
	}
	err = archive.Fetch(ctx, c.Name, c.Dest)
	if errors.Is(err, fs.ErrNotExist) {
		return &missingError{err}
	}
	if err != nil {
		return err
	}
	return a.print(map[string]string{"name": c.Name, "destination": c.Dest}, nil)
}
