package wal

import (
	"context"
	"log/slog"
)

// joints puts together the records that cross from one segment into the next, as indexes come in order. Where that cannot
// be done it says so in the log, and goes on behind them.
type joints struct {
	log    *slog.Logger
	prev   Segment
	open   joint
	broken bool // the record that crosses into the last segment could not be put together
}

// next returns what the record tells that crosses into a segment.
func (j *joints) next(ctx context.Context, ix *Index) *Summary {
	sum := &Summary{}
	j.broken = false
	if j.open.length > 0 && ix.Segment.Number == j.prev.Number+1 {
		if _, err := j.open.next(sum, ix); err != nil {
			// The index of the segment has what follows.
			j.log.WarnContext(ctx, "cannot read a record that crosses into a segment", "segment", ix.Segment.String(), "error", err)
			j.open, j.broken = joint{}, true
		}
	} else {
		j.open = joint{}
	}
	if ix.tailAt != 0 {
		var err error
		if j.open, err = ix.unfinished(); err != nil {
			j.log.WarnContext(ctx, "cannot read a record that crosses out of a segment", "segment", ix.Segment.String(), "error", err)
			j.open = joint{}
		}
	}
	j.prev = ix.Segment
	return sum
}
