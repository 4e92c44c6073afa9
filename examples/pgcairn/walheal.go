package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// walHealCommand closes the gaps of repositories that were out of reach for a while.
type walHealCommand struct {
	PGData string `name:"pgdata" placeholder:"DIR" help:"Data directory of the server: what its pg_wal still has is not fetched, which takes no identity."`
	MaxAge days   `default:"168h" placeholder:"D" help:"What a repository was given longer ago, others are not given any more."`
}

// healedDoc is what came of a repository.
type healedDoc struct {
	Repo    string `json:"repo"`
	Owed    int    `json:"owed"`
	Brought int    `json:"brought"`
	TooOld  int    `json:"too_old"`
	Error   string `json:"error,omitempty"`
}

// Run runs the command.
func (c *walHealCommand) Run(ctx context.Context, a *app) error {
	if c.MaxAge <= 0 {
		return usage("--max-age must be more than nothing")
	}
	all, err := a.archives(0, &wal.ArchivesOptions{})
	if err != nil {
		return err
	}
	healed, failed := all.Heal(ctx, &wal.HealOptions{PGData: c.PGData, MaxAge: time.Duration(c.MaxAge)})
	doc := struct {
		Repositories []healedDoc `json:"repositories"`
	}{}
	for _, h := range healed {
		one := healedDoc{Repo: h.Name, Owed: h.Owed, Brought: h.Brought, TooOld: h.TooOld}
		if h.Err != nil {
			one.Error = h.Err.Error()
		}
		doc.Repositories = append(doc.Repositories, one)
	}
	err = a.print(doc, func(w *strings.Builder) {
		for _, r := range doc.Repositories {
			fmt.Fprintf(w, "%s: %d of %d files brought\n", r.Repo, r.Brought, r.Owed)
			if r.TooOld > 0 {
				fmt.Fprintf(w, "%s: %d segments after its first are lacking and older than --max-age: unless retention dropped them, raise that\n", r.Repo, r.TooOld)
			}
		}
	})
	if failed != nil {
		return failed
	}
	return err
}
