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

// takeAll takes one backup into all repositories. It returns the manifest of the first that has it, also where too few have.
func (c *backupCommand) takeAll(ctx context.Context, a *app, s backup.Source, o backup.Options, observe func(repo.Op)) (*backup.Manifest, []takenDoc, error) {
	enough := c.Enough
	if enough == 0 {
		enough = len(a.locations)
	}
	if enough > len(a.locations) {
		return nil, nil, usage("--enough cannot be more than there are repositories")
	}
	places, err := a.places()
	if err != nil {
		return nil, nil, err
	}
	each := make([]takenDoc, len(places))
	var repos []*repo.Repo
	var place []int // of each, in locations
	var failed []error
	for i, where := range places {
		each[i].Repo = where.String()
		r, err := a.openWith(ctx, a.locations[i], false, repo.Open, observe)
		if err != nil {
			each[i].Error = err.Error()
			failed = append(failed, fmt.Errorf("%s: %w", where, err))
			continue
		}
		repos, place = append(repos, r), append(place, i)
	}
	if len(repos) == 0 {
		return nil, nil, errors.Join(failed...)
	}
	// A backup in fewer than were asked for is better than none: what it is not in is told then.
	taken, err := backup.TakeAll(ctx, repos, s, &backup.AllOptions{Options: o, Enough: 1})
	if err != nil && taken == nil {
		return nil, nil, err
	}
	var first *backup.Manifest
	good := 0
	for k, t := range taken {
		one := &each[place[k]]
		if t.Err != nil {
			one.Error = t.Err.Error()
			failed = append(failed, fmt.Errorf("%s: %w", one.Repo, t.Err))
			continue
		}
		good++
		if one.ID = t.Manifest.ID; first == nil {
			first = t.Manifest
		}
	}
	if good < enough {
		return first, each, errors.Join(failed...)
	}
	for _, one := range each {
		if one.Error != "" {
			a.logger().WarnContext(ctx, "a repository has no backup", "repo", one.Repo, "error", one.Error)
		}
	}
	return first, each, nil
}
