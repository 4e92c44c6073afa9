package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"
)

// indexes yields the indexes of segments in the order given, with their changes or without. It asks for up to eight
// groups, or segments, at a time: fewer at first, since who looks for something may find it soon. What is rolled up
// takes one request a group. After an error it yields nothing more.
func (a *Archive) indexes(ctx context.Context, sys System, segments []Segment, changes bool) iter.Seq2[*Index, error] {
	return func(yield func(*Index, error) bool) {
		parts := byGroup(segments)
		for ahead := 1; len(parts) > 0; ahead = min(2*ahead, 8) {
			now := parts[:min(ahead, len(parts))]
			parts = parts[len(now):]
			read := make([][]*Index, len(now))
			g, ctx := errgroup.WithContext(ctx)
			for i, part := range now {
				g.Go(func() (err error) {
					read[i], err = a.indexesOf(ctx, sys, part, changes)
					return err
				})
			}
			if err := g.Wait(); err != nil {
				yield(nil, notMissing(err)) // they were listed a moment ago
				return
			}
			for _, ix := range slices.Concat(read...) {
				if !yield(ix, nil) {
					return
				}
			}
		}
	}
}

// byGroup cuts a list of segments where another group begins; few of a group are alone.
func byGroup(segments []Segment) [][]Segment {
	var parts [][]Segment
	for len(segments) > 0 {
		g := groupOf(segments[0])
		n := slices.IndexFunc(segments, func(s Segment) bool { return groupOf(s) != g })
		if n < 0 {
			n = len(segments)
		}
		if n < fewSegments {
			n = 1
		}
		parts = append(parts, segments[:n:n])
		segments = segments[n:]
	}
	return parts
}

// indexesOf reads the indexes of segments of one group.
func (a *Archive) indexesOf(ctx context.Context, sys System, segments []Segment, changes bool) ([]*Index, error) {
	var rolled map[uint64]*Index
	if len(segments) > 1 {
		var err error
		rolled, err = a.readRollUp(ctx, sys, groupOf(segments[0]), changes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if ctx.Err() != nil {
				return nil, err
			}
			a.log.WarnContext(ctx, "cannot read the indexes that were rolled up: they are read one by one", "error", err)
		}
	}
	all := make([]*Index, len(segments))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, s := range segments {
		if all[i] = rolled[s.Number]; all[i] != nil {
			continue
		}
		g.Go(func() error {
			n, err := ParseName(s.Name())
			if err == nil {
				all[i], err = a.index(ctx, sys, n, s)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("wal: read the indexes: %w", err)
	}
	return all, nil
}

// indexesBut yields the indexes of segments, without their changes, and makes that of the last where it is held in part.
func (a *Archive) indexesBut(ctx context.Context, c Coverage, segments []Segment) iter.Seq2[*Index, error] {
	return func(yield func(*Index, error) bool) {
		last := len(segments) - 1
		whole := segments
		if last >= 0 && !c.Holds(segments[last]) {
			whole = segments[:last]
		}
		for ix, err := range a.indexes(ctx, c.System, whole, false) {
			if !yield(ix, err) {
				return
			}
		}
		if len(whole) < len(segments) {
			s := segments[last]
			n, err := ParseName(s.Name())
			if err != nil {
				yield(nil, err)
				return
			}
			ix, err := a.makeIndex(ctx, c.System, n, s)
			yield(ix, notMissing(err))
		}
	}
}
