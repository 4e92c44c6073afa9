package wal

import (
	"context"
	"fmt"
)

// Matches returns what an XID or a name may stand for, in the order of the WAL: the ends of transactions of that XID,
// which comes again after 2^32 others, or the restore points of that name. way may have gaps, its last segment may be
// held in part, and what a damaged segment tells is not there.
func (a *Archive) Matches(ctx context.Context, c Coverage, way []Range, u Until) ([]Event, error) {
	u.Exclusive = false
	var all []Event
	segments := segmentsOf(way)
	joints := joints{archive: a, system: c.System, segments: segments}
	i := -1
	for ix, err := range a.indexesBut(ctx, c, segments) {
		if err != nil {
			return nil, fmt.Errorf("wal: look for what a target stands for: %w", err)
		}
		i++
		sum, err := joints.next(ctx, ix)
		if err != nil {
			return nil, fmt.Errorf("wal: look for what a target stands for: %w", err)
		}
		if !u.mayEnd(ix, sum) {
			continue
		}
		if u.Name != "" {
			for _, events := range [][]Event{sum.Events, ix.Events} {
				for _, e := range events {
					if u.names(e) {
						all = append(all, e)
					}
				}
			}
			continue
		}
		for _, e := range sum.crossed {
			if e.XID == u.XID {
				all = append(all, e)
			}
		}
		err = a.records(ctx, c.System, segments[i:i+1], func(r *Record) bool {
			if e, ok := endOf(r); ok && e.XID == u.XID {
				all = append(all, e)
			}
			return true
		})
		if err := storeError(err); err != nil {
			return nil, fmt.Errorf("wal: look for what a target stands for: %w", err)
		}
	}
	return all, nil
}
