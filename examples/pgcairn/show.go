package main

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
)

// showCommand shows a backup.
type showCommand struct {
	ID string `arg:"" help:"Backup, as listed."`
}

// Run runs the command. It reads the whole manifest, and so fails when any of it is damaged.
func (c *showCommand) Run(ctx context.Context, a *app) error {
	id, err := backup.ParseID(c.ID)
	if err != nil {
		return &usageError{err}
	}
	r, err := a.repository(ctx, nil)
	if err != nil {
		return err
	}
	m, err := backup.Load(ctx, r, id)
	if err != nil {
		return missingBackup(err)
	}
	pinned, err := backup.Pinned(ctx, r)
	if err != nil {
		return err
	}
	m.Pinned = pinned[id]
	doc := newManifestDoc(m)
	return a.print(doc, func(w *strings.Builder) { doc.print(w) })
}

// missingBackup tells the answer that there is no such backup from other errors.
func missingBackup(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &noBackupError{err}
	}
	return err
}

// noBackupError is the answer that there is no such backup.
type noBackupError struct{ err error }

func (e *noBackupError) Error() string { return e.err.Error() }
func (e *noBackupError) Unwrap() error { return e.err }
