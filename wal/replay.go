package wal

import (
	"context"
	"errors"
	"fmt"
)

// Replayed tells what a recovery does with the WAL there is.
type Replayed struct {
	// Reached tells whether recovery ends where it is to. Where it is not to end before the WAL does, that is whether all of
	// it can be read.
	Reached bool

	To   LSN    // every record that begins before it is replayed, and none else
	Read LSN    // how far the WAL has to be read for that; where it is not Reached, where the WAL ends
	Stop *Event // the commit or abort that recovery ends before or after, if it is one
	Last *Event // the last commit that is replayed; nil: there is none
	Next *Event // the first commit that is not

	// Broken is why there are no more records at To, although there is more WAL on the way. PostgreSQL takes that for the
	// end of the WAL.
	Broken error
}

// Replay tells what a recovery does that begins at a position and reads the segments of way, of which the last may be
// held in part: what PostgreSQL would do, as far as that depends on the WAL. The segments follow each other, from the one
// with the position on.
//
// It reads the indexes of the segments, and of the WAL itself only what is around the end of the recovery. Where it fails, the
// store, or an object, cannot be read.
func (a *Archive) Replay(ctx context.Context, c Coverage, way []Range, from LSN, u Until) (*Replayed, error) {
	y := &replay{archive: a, system: c.System, segments: segmentsOf(way), from: from, until: u, committed: -1}
	y.joints = joints{archive: a, system: c.System, segments: y.segments}
	if err := y.run(ctx, c); err != nil {
		return nil, fmt.Errorf("wal: replay: %w", err)
	}
	return &y.told, nil
}

// replay is one under way.
type replay struct {
	archive  *Archive
	system   System
	segments []Segment
	from     LSN
	until    Until
	told     Replayed

	joints    joints
	ended     bool // recovery has ended; the next commit is looked for
	committed int  // the last segment so far in which a commit ends; -1 for none
	commits   int  // the segment in which the first record begins that ends in that one
}

func (y *replay) run(ctx context.Context, c Coverage) error {
	i := 0
	more := true
	for ix, err := range y.archive.indexesBut(ctx, c, y.segments) {
		if err == nil {
			more, err = y.segment(ctx, i, ix)
		}
		if err != nil {
			return err
		}
		if !more {
			break
		}
		i++
	}
	if !y.ended {
		if y.told.Broken == nil && len(y.segments) > 0 {
			// The index does not tell where the last record ends.
			if _, err := y.scan(ctx, len(y.segments)-1); err != nil {
				return err
			}
		}
		y.told.Reached = y.until == (Until{}) && y.told.Broken == nil
	}
	if y.told.Last == nil && y.committed >= 0 {
		last, err := y.lastCommit(ctx)
		y.told.Last = last
		return err
	}
	return nil
}

// segment goes on into a segment. more is false when all is known.
func (y *replay) segment(ctx context.Context, i int, ix *Index) (more bool, err error) {
	sum, err := y.joints.next(ctx, ix)
	if err != nil {
		return false, err
	}
	commits := ix.Commits.Count > 0
	for _, e := range sum.crossed {
		commits = commits || e.Kind == EventCommit
	}
	unread := ix.Damage != "" || y.joints.broken // which the records themselves may belie
	if y.ended {
		if !commits && !unread {
			return true, nil
		}
		found, err := y.scan(ctx, i)
		if err != nil {
			return false, err
		}
		return found.next == nil && found.broken == nil, nil
	}
	if unread || y.until.mayEnd(ix, sum) {
		found, err := y.scan(ctx, i)
		if err != nil {
			return false, err
		}
		if y.ended || found.broken != nil {
			return y.ended && found.next == nil && found.broken == nil, nil
		}
		commits = commits || found.last != nil
	}
	if commits {
		y.committed, y.commits = i, y.joints.from
	}
	return true, nil
}

// seen is what a scan has found.
type seen struct {
	last   *Event // commit that is replayed
	next   *Event // commit that is not
	broken error
}

// scan reads the records that end in the last segment whose index has come, and those of the segments before it, from the
// one on in which a record begins that may cross into it.
func (y *replay) scan(ctx context.Context, i int) (seen, error) {
	var found seen
	end := y.from
	records := func(r *Record) bool {
		if r.LSN < y.from || y.ended && r.LSN < y.told.To {
			return true
		}
		var e *Event
		if of, ok := endOf(r); ok {
			e = &of
		}
		commit := e != nil && e.Kind == EventCommit
		if !y.ended && y.until.before(r, e) {
			y.ended, y.told.Reached = true, true
			y.told.To, y.told.Read, y.told.Stop = r.LSN, r.End, e
		}
		if y.ended {
			if commit {
				found.next, y.told.Next = e, e
			}
			return !commit
		}
		if commit {
			found.last = e
		}
		end = r.End
		if y.until.after(r, e) {
			y.ended, y.told.Reached = true, true
			y.told.To, y.told.Read, y.told.Stop = r.End, r.End, e
		}
		return true
	}
	was := y.ended
	err := y.archive.records(ctx, y.system, y.segments[y.joints.from:i+1], records)
	var broken *RecordError
	switch {
	case errors.As(err, &broken):
		// The zeros behind the last record are where the WAL ends, if nothing comes after them.
		if !errors.Is(err, ErrEndOfWAL) || i < len(y.segments)-1 {
			found.broken = err
		}
	case err != nil:
		return found, err
	}
	if was {
		return found, nil
	}
	if y.ended {
		y.told.Last = found.last
		return found, nil
	}
	y.told.To, y.told.Read, y.told.Broken = end, end, found.broken
	if found.broken != nil || i == len(y.segments)-1 {
		y.told.Last = found.last
	}
	return found, nil
}

// lastCommit looks for the last commit before the end of the recovery in the last segment that has any.
func (y *replay) lastCommit(ctx context.Context) (last *Event, err error) {
	i := y.committed
	err = y.archive.records(ctx, y.system, y.segments[y.commits:i+1], func(r *Record) bool {
		if e, ok := endOf(r); ok && e.Kind == EventCommit && r.LSN >= y.from && r.LSN < y.told.To {
			last = &e
		}
		return true
	})
	return last, storeError(err)
}

// storeError is an error of reading records unless it only says that there are no more.
func storeError(err error) error {
	var broken *RecordError
	if errors.As(err, &broken) {
		return nil
	}
	return err
}

// records emits the records that begin in segments that follow each other, and end in them, until it is told to stop. It
// fails with a *[RecordError] where there is none.
func (a *Archive) records(ctx context.Context, sys System, segments []Segment, emit func(*Record) bool) error {
	stopped := false
	scan := newScanner(nil, func(r *Record) bool {
		stopped = !emit(r)
		return !stopped
	})
	for _, s := range segments {
		n, err := ParseName(s.Name())
		if err != nil {
			return err
		}
		if err := a.read(ctx, sys, n, scanning{scan}); err != nil {
			return notMissing(err) // it was listed a moment ago
		}
		if stopped {
			return nil
		}
		if scan.err != nil {
			return scan.err
		}
	}
	return nil
}
