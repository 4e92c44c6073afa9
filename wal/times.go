package wal

import (
	"context"
	"errors"
	"slices"

	"github.com/pgcairn/pgcairn/repo"
)

// Times fills in when the commits of each range of a coverage were made: the earliest in the first segment that has any,
// and the latest in the last one. Commits are in the WAL in the order of their times, but for moments. It takes a few
// requests a range, and an identity where the repository is encrypted. Where a segment cannot be read, as [repo.Unreadable]
// tells, that end of its range is left without a time; the error joins these, when all else is filled in.
func (a *Archive) Times(ctx context.Context, c *Coverage) error {
	var unreadable []error
	commits := func(segments []Segment) (Commits, error) {
		found, err := a.someCommits(ctx, c.System, segments)
		if repo.Unreadable(err) {
			unreadable, err = append(unreadable, err), nil
		}
		return found, err
	}
	for i := range c.Timelines {
		ranges := c.Timelines[i].Ranges
		for k := range ranges {
			r := &ranges[k]
			all := r.segments()
			first, err := commits(all)
			if err != nil {
				return err
			}
			slices.Reverse(all)
			last, err := commits(all)
			if err != nil {
				return err
			}
			r.FirstCommit, r.LastCommit = first.First, last.Last
		}
	}
	return errors.Join(unreadable...)
}

// someCommits are the commits of the first of some segments that has any.
func (a *Archive) someCommits(ctx context.Context, sys System, segments []Segment) (Commits, error) {
	for ix, err := range a.indexes(ctx, sys, segments, false) {
		if err != nil || ix.Commits.Count > 0 {
			if err != nil {
				return Commits{}, err
			}
			return ix.Commits, nil
		}
	}
	return Commits{}, nil
}

func (r Range) segments() []Segment {
	all := make([]Segment, 0, r.Last.Number-r.First.Number+1)
	for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
		all = append(all, s)
	}
	return all
}

func segmentsOf(way []Range) []Segment {
	var all []Segment
	for _, r := range way {
		all = append(all, r.segments()...)
	}
	return all
}
