package wal

import (
	"context"
	"fmt"
)

// Following tells what was done from a position on: the commits, summed up, and the events of an [Index], in the order of
// the WAL. way may have gaps, its last segment may be held in part, and what a damaged segment tells is not there. It
// reads the indexes of the segments, and of the WAL the first segment alone.
func (a *Archive) Following(ctx context.Context, c Coverage, way []Range, at LSN) (Commits, []Event, error) {
	f := &following{}
	if err := f.run(ctx, a, c, way, at); err != nil {
		return Commits{}, nil, fmt.Errorf("wal: tell what follows %s: %w", at, err)
	}
	return f.commits, f.events, nil
}

type following struct {
	commits Commits
	events  []Event
}

func (f *following) run(ctx context.Context, a *Archive, c Coverage, way []Range, at LSN) error {
	segments := segmentsOf(way)
	for len(segments) > 0 && segments[0].End() <= at {
		segments = segments[1:]
	}
	joints := joints{archive: a, system: c.System, segments: segments}
	i := -1
	for ix, err := range a.indexesBut(ctx, c, segments) {
		if err != nil {
			return err
		}
		i++
		sum, err := joints.next(ctx, ix)
		if err != nil {
			return err
		}
		f.commits.merge(sum.Commits)
		f.events = append(f.events, sum.Events...)
		if ix.Segment.Start() >= at {
			f.commits.merge(ix.Commits)
			f.events = append(f.events, ix.Events...)
			continue
		}
		for _, e := range ix.Events {
			if e.LSN >= at {
				f.events = append(f.events, e)
			}
		}
		err = a.records(ctx, c.System, segments[i:i+1], func(r *Record) bool {
			if e, ok := endOf(r); ok && e.Kind == EventCommit && e.LSN >= at {
				f.commits.add(e.Time)
			}
			return true
		})
		if err := storeError(err); err != nil {
			return err
		}
	}
	return nil
}
