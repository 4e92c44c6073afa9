package wal

import (
	"context"
	"errors"
)

// joints puts together the records that cross from one segment into the next, as indexes come in order: from what these
// keep of them, or from the WAL where that is not enough. Where it cannot be done joints says so in the log, and goes on
// behind them.
type joints struct {
	archive  *Archive
	system   System
	segments []Segment // whose indexes come

	n      int // indexes that have come
	open   joint
	from   int  // the segment in which the record begins that crosses into the last one, if there is one
	begun  int  // the last segment so far in which a record begins
	broken bool // the record that crosses into the last segment could not be put together
}

// next returns what the record tells that crosses into a segment and ends there.
func (j *joints) next(ctx context.Context, ix *Index) (*Summary, error) {
	sum := &Summary{}
	i := j.n
	j.n++
	follows := i > 0 && j.segments[i].Number == j.segments[i-1].Number+1
	if !follows {
		j.open, j.begun = joint{}, i
	}
	j.from, j.broken = j.begun, false
	if ix.head.length == 0 || ix.head.end != 0 {
		j.begun = i
	}
	var err error
	switch {
	case j.open.length > 0:
		_, err = j.open.next(sum, ix)
	case follows && ix.head.length > 0:
		err = errors.New("the indexes before it do not have its beginning")
	}
	if err != nil {
		j.open = joint{}
		if err := j.read(ctx, ix, sum, err); err != nil {
			return nil, err
		}
	}
	if ix.tailAt != 0 {
		if j.open, err = ix.unfinished(); err != nil {
			j.open = joint{} // the segment in which it ends tells that it is lacking
		}
	}
	return sum, nil
}

// read has the WAL tell what the indexes do not.
func (j *joints) read(ctx context.Context, ix *Index, sum *Summary, why error) error {
	if ix.head.length > 0 && ix.head.end == 0 {
		return nil // it ends behind the segment
	}
	var told account
	var failed error
	start := ix.Segment.Start()
	err := j.archive.records(ctx, j.system, j.segments[j.from:j.n], func(r *Record) bool {
		if r.End > start && r.LSN < start {
			failed = told.record(r)
			if e, ok := endOf(r); ok {
				sum.crossed = append(sum.crossed, e)
			}
		}
		return r.End <= start
	})
	if err := storeError(err); err != nil {
		return err
	}
	if err = errors.Join(err, failed); err != nil {
		// The index of the segment has what follows.
		j.broken = true
		j.archive.log.WarnContext(ctx, "cannot read a record that crosses into a segment", "segment", ix.Segment.String(), "error", errors.Join(why, err))
		return nil
	}
	sum.account(&told)
	return nil
}
