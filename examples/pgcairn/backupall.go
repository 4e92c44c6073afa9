package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
)

// takenDoc is what became of the backup in one of several repositories.
type takenDoc struct {
	Repo  string    `json:"repo"`
	ID    backup.ID `json:"id,omitempty"`
	Error string    `json:"error,omitempty"`
}

// takeAll takes one backup into all repositories. It returns the manifest of the first that has it.
func (c *backupCommand) takeAll(ctx context.Context, a *app, s backup.Source, o backup.Options, observe func(repo.Op)) (*backup.Manifest, []takenDoc, error) {
	enough := c.Enough
	if enough == 0 {
		enough = len(a.locations)
	}
	if enough > len(a.locations) {
		return nil, nil, usage("--enough cannot be more than there are repositories")
	}
	each := make([]takenDoc, len(a.locations))
	var repos []*repo.Repo
	var place []int // of each, in locations
	var failed []error
	for i, location := range a.locations {
		where, err := parseLocation(location)
		if err != nil {
			return nil, nil, err
		}
		each[i].Repo = where.String()
		r, err := a.openWith(ctx, location, false, repo.Open, observe)
		if err != nil {
			each[i].Error = err.Error()
			failed = append(failed, fmt.Errorf("%s: %w", where, err))
			continue
		}
		repos, place = append(repos, r), append(place, i)
	}
	if len(repos) < enough {
		return nil, nil, errors.Join(failed...)
	}
	taken, err := backup.TakeAll(ctx, repos, s, &backup.AllOptions{Options: o, Enough: enough})
	var first *backup.Manifest
	for k, t := range taken {
		one := &each[place[k]]
		if t.Err != nil {
			one.Error = t.Err.Error()
			continue
		}
		if one.ID = t.Manifest.ID; first == nil {
			first = t.Manifest
		}
	}
	for _, one := range each {
		if err == nil && one.Error != "" {
			a.logger().WarnContext(ctx, "a repository has no backup", "repo", one.Repo, "error", one.Error)
		}
	}
	return first, each, err
}
