package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
)

// backupCommand takes a backup.
type backupCommand struct {
	server

	Type         string            `enum:"full,diff,incr,auto" default:"full" help:"How much to store: all, what has changed since the last full backup, or since the last of any type; auto is incr where that is possible: ${enum}."`
	Source       string            `enum:"dir,sql,replication," default:"" help:"How to read: dir, sql, replication. Default: dir with --pgdata, else sql."`
	PGData       string            `name:"pgdata" placeholder:"DIR" help:"Data directory of the server, on this host."`
	Jobs         int               `help:"How many files to read beside each other. Default: the number of processors; with sql, 4 if that is more."`
	Labels       map[string]string `name:"label" mapsep:"none" placeholder:"K=V" help:"Label to keep with the backup; repeatable."`
	UpgradedFrom uint64            `placeholder:"SYSTEM_ID" help:"Let the repository go on with this cluster, which was upgraded (pg_upgrade) from the one of this system identifier, to which the repository belongs. It may stay set."`
	Rate         int64             `placeholder:"BYTES/S" help:"Limit on reading from the server."`
	Compression  string            `enum:"zstd-fastest,zstd,zstd-better,s2,none" default:"zstd-fastest" help:"How files are compressed: ${enum}. Stock zstd does not read s2."`
	Enough       int               `placeholder:"N" help:"Of several repositories, in how many the backup has to be. Default: all."`
	Checkpoint   string            `enum:"fast,spread" default:"fast" help:"How the server makes its checkpoint at the start: ${enum}."`
}

// types are the types of backups, by their names on the command line.
var types = map[string]backup.Type{
	"full": backup.Full, "diff": backup.Differential, "incr": backup.Incremental, "auto": backup.Auto,
}

// backupDoc is what the command prints.
type backupDoc struct {
	manifestDoc
	Duration float64  `json:"duration_seconds"`
	Requests requests `json:"requests"`

	// Of several repositories, what became of each; the rest of the document is of the first that has a backup.
	Repositories []takenDoc `json:"repositories,omitempty"`
}

// Run runs the command.
func (c *backupCommand) Run(ctx context.Context, a *app) error {
	if err := c.check(a.several()); err != nil {
		return err
	}
	begun := time.Now()
	var count requestCounter
	var r *repo.Repo
	if !a.several() {
		var err error
		if r, err = a.repository(ctx, count.add); err != nil {
			return err
		}
	}
	source, err := c.source(a)
	if err != nil {
		return err
	}
	o := backup.Options{
		Type: types[c.Type], Jobs: c.Jobs, Rate: c.Rate, Compression: repo.Compression(c.Compression), Spread: c.Checkpoint == "spread", Labels: c.Labels,
		UpgradedFrom: c.UpgradedFrom,
		Progress:     a.meter().backup(), Logger: a.logger(),
	}
	var m *backup.Manifest
	var each []takenDoc
	if a.several() {
		m, each, err = c.takeAll(ctx, a, source, o, count.add)
	} else {
		m, err = backup.Take(ctx, r, source, &o)
	}
	if m == nil {
		return err
	}
	doc := backupDoc{manifestDoc: newManifestDoc(m), Duration: time.Since(begun).Seconds(), Requests: count.requests(), Repositories: each}
	a.screen.done()
	printed := a.print(doc, func(w *strings.Builder) {
		doc.print(w)
		for _, one := range each {
			if one.ID != "" {
				fmt.Fprintf(w, "in        %s: %s\n", one.Repo, one.ID)
			}
		}
		fmt.Fprintf(w, "took      %.1f s\n", doc.Duration)
	})
	if err != nil {
		return err
	}
	return printed
}

// source is what is backed up.
func (c *backupCommand) source(a *app) (backup.Source, error) {
	switch c.Source {
	case "sql":
		// A job reads by a connection of its own.
		return backup.SQL(c.DSN, &backup.SQLOptions{Connections: c.Jobs, Logger: a.logger()})
	case "replication":
		return backup.Replication(c.DSN, &backup.ReplicationOptions{Logger: a.logger()})
	}
	return backup.Directory(c.PGData, c.DSN, &backup.DirectoryOptions{Logger: a.logger()})
}

// check refuses what makes no sense.
func (c *backupCommand) check(several bool) error {
	if c.Source == "" {
		c.Source = "sql"
		if c.PGData != "" {
			c.Source = "dir"
		}
	}
	if c.Source == "dir" && c.PGData == "" {
		return usage("--source dir needs --pgdata, the server's data directory")
	}
	if c.Rate < 0 {
		return usage("--rate must not be negative")
	}
	if c.Enough < 0 {
		return usage("--enough must not be negative")
	}
	if several && c.Source == "replication" {
		return usage("--source replication feeds one --repo only: use dir or sql")
	}
	if !several && c.Enough > 1 {
		return usage("--enough cannot be more than there are repositories")
	}
	if c.Jobs < 0 {
		return usage("--jobs must not be negative")
	}
	return nil
}
