package wal

import (
	"context"
	"slices"
)

// Times fills in when the commits of each range of a coverage were made: the earliest in the first segment that has any,
// and the latest in the last one. Commits are in the WAL in the order of their times, but for moments. It takes a few
// requests a range, and an identity where the repository is encrypted.
func (a *Archive) Times(ctx context.Context, c *Coverage) error {
	for i := range c.Timelines {
		ranges := c.Timelines[i].Ranges
		for k := range ranges {
			r := &ranges[k]
			all := r.segments()
			first, err := a.someCommits(ctx, c.System, all)
			if err != nil {
				return err
			}
			slices.Reverse(all)
			last, err := a.someCommits(ctx, c.System, all)
			if err != nil {
				return err
			}
			r.FirstCommit, r.LastCommit = first.First, last.Last
		}
	}
	return nil
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
