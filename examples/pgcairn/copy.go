package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
)

// copyCommand copies to another repository.
type copyCommand struct {
	Dest            string   `arg:"" name:"dest-url" help:"Repository to copy to, which was made by init: a path or a URL, as --repo."`
	IDs             []string `arg:"" optional:"" name:"id" help:"Backups to copy, with the WAL that can be reached from them. Default: everything."`
	DestRecipients  []string `name:"dest-recipient" sep:"none" placeholder:"R" help:"Age recipient to encrypt the copy to; repeatable. Default: --recipient."`
	DestIdentities  []string `name:"dest-identity" sep:"none" placeholder:"FILE" help:"Age identity file that reads the copy; repeatable. Copying needs none."`
	DestUnencrypted bool     `help:"The copy is not encrypted, whatever the source is."`
	OnlyConsistent  bool     `help:"Copy no more WAL than makes the backups consistent. Default: to the end of the archive."`
	Jobs            int      `help:"How many objects to copy beside each other. Default: the number of processors."`
	Rate            int64    `placeholder:"BYTES/S" help:"Limit on reading from the source."`
}

// copyDoc is what the command prints.
type copyDoc struct {
	*backup.CopyResult
	Duration       float64  `json:"duration_seconds"`
	SourceRequests requests `json:"source_requests"`
	Requests       requests `json:"requests"`
}

// Run runs the command.
func (c *copyCommand) Run(ctx context.Context, a *app) error {
	if err := a.onlyOne("copy"); err != nil {
		return err
	}
	if c.Jobs < 0 {
		return usage("--jobs must not be negative")
	}
	if c.Rate < 0 {
		return usage("--rate must not be negative")
	}
	if c.DestUnencrypted && len(c.DestRecipients)+len(c.DestIdentities) > 0 {
		return usage("--dest-unencrypted has no --dest-recipient and no --dest-identity")
	}
	o := &backup.CopyOptions{
		OnlyConsistent: c.OnlyConsistent, Decrypt: c.DestUnencrypted, Jobs: c.Jobs, Rate: c.Rate,
		Progress: a.meter().copy(), Logger: a.logger(),
	}
	for _, text := range c.IDs {
		id, err := backup.ParseID(text)
		if err != nil {
			return &usageError{err}
		}
		o.Backups = append(o.Backups, id)
	}
	begun := time.Now()
	var count, sourceCount requestCounter
	from, err := a.repository(ctx, sourceCount.add)
	if err != nil {
		return err
	}
	to, err := c.destination(a).repository(ctx, count.add)
	if err != nil {
		return &destinationError{c.Dest, err}
	}
	result, err := backup.Copy(ctx, from, to, o)
	var damaged *backup.CopyError
	if err != nil && !errors.As(err, &damaged) {
		return missingBackup(err)
	}
	doc := copyDoc{result, time.Since(begun).Seconds(), sourceCount.requests(), count.requests()}
	a.screen.done()
	return errors.Join(a.print(doc, doc.print), err)
}

// destinationError means that the repository to copy to could not be opened.
type destinationError struct {
	dest string
	err  error
}

func (e *destinationError) Error() string { return e.dest + ": " + e.err.Error() }
func (e *destinationError) Unwrap() error { return e.err }

// destination is the app for the repository to copy to.
func (c *copyCommand) destination(a *app) *app {
	dest := *a
	dest.locations = []string{c.Dest}
	switch {
	case c.DestUnencrypted:
		dest.common.Recipients, dest.common.Identities = nil, nil
	case len(c.DestRecipients)+len(c.DestIdentities) > 0:
		dest.common.Recipients, dest.common.Identities = c.DestRecipients, c.DestIdentities
	}
	return &dest
}

func (d copyDoc) print(w *strings.Builder) {
	fmt.Fprintf(w, "copied %d backups, %d were there; %d segments of WAL; %s in %.1f s\n",
		len(d.Backups), len(d.Present), d.Segments, size(d.Bytes), d.Duration)
	for _, p := range d.Problems {
		fmt.Fprintf(w, "not copied: %s: %s\n", p.Key, p.Text)
		for _, id := range p.Backups {
			fmt.Fprintf(w, "  and so not backup %s\n", id)
		}
	}
	for _, id := range d.Expired {
		fmt.Fprintf(w, "deleted meanwhile: %s\n", id)
	}
}

// copy adapts the meter to a copy.
func (m meter) copy() func(backup.CopyProgress) {
	if m == nil {
		return nil
	}
	return func(p backup.CopyProgress) {
		phase := "copy: " + p.Phase
		if p.Backup != "" {
			phase += " " + string(p.Backup)
		}
		m(gauge{phase: phase, done: p.Bytes, total: p.Total, rate: p.Rate, remaining: p.Remaining})
	}
}
