package wal

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Query is what [Archive.Search] looks for. The zero value looks for everything.
type Query struct {
	// Timeline is the one whose WAL is searched, with that of the timelines before it that led there. The default is
	// the newest.
	Timeline Timeline

	// From and To are the first and last time that an event may have. What has no time of its own (see [Event]) is
	// taken to be as old as the commits before it. Zero is no bound.
	From, To time.Time

	// Kinds are the kinds of events; the default is all of them. To look for [EventCommit] takes the WAL itself where
	// there were commits in the window: all else is in the indexes.
	Kinds []EventKind
}

func (q Query) wants(k EventKind) bool { return len(q.Kinds) == 0 || slices.Contains(q.Kinds, k) }

// overlaps tells whether something between two times may be in the window.
func (q Query) overlaps(first, last time.Time) bool {
	return (q.From.IsZero() || !last.Before(q.From)) && (q.To.IsZero() || !first.After(q.To))
}

// Search yields what the archive's cluster did, in the order of the WAL. After an error it yields nothing more. Where
// segments are missing or damaged it goes on behind them, and what they tell is not there: [Coverage] names the gaps, and
// the damage is logged. The last segment may be held in part (see [Archive.Receive]).
func (a *Archive) Search(ctx context.Context, q Query) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		cov, err := a.Coverage(ctx)
		if err != nil {
			yield(Event{}, err)
			return
		}
		if len(cov.Timelines) == 0 {
			return
		}
		if q.Timeline == 0 {
			q.Timeline = cov.Timelines[len(cov.Timelines)-1].Timeline
		}
		way, ok := cov.Way(q.Timeline)
		if !ok {
			yield(Event{}, fmt.Errorf("wal: search: the archive does not hold %s, which tells how the WAL came to timeline %d",
				q.Timeline.HistoryName(), q.Timeline))
			return
		}
		segments := segmentsOf(way)
		s := &search{archive: a, system: cov.System, query: q, yield: yield, joints: joints{archive: a, system: cov.System, segments: segments}}
		for ix, err := range a.indexesBut(ctx, cov, segments) {
			more := false
			if err == nil {
				more, err = s.segment(ctx, ix)
			}
			if err != nil {
				yield(Event{}, fmt.Errorf("wal: search: %w", err))
				return
			}
			if !more {
				return
			}
		}
	}
}

// search is one under way.
type search struct {
	archive *Archive
	system  System
	query   Query
	yield   func(Event, error) bool

	joints joints
	clock  time.Time // of the latest commit so far
}

// segment yields what a segment tells. more is false when no more is wanted.
func (s *search) segment(ctx context.Context, ix *Index) (more bool, err error) {
	sum, err := s.joints.next(ctx, ix)
	if err != nil {
		return false, err
	}
	events := sum.Events
	for _, e := range sum.crossed {
		if e.Kind == EventCommit {
			events = append(events, e)
		}
	}
	first := s.clock
	if first.IsZero() {
		first = ix.Commits.First
	}
	if s.query.wants(EventCommit) && ix.Commits.Count > 0 && s.query.overlaps(ix.Commits.First, ix.Commits.Last) {
		commits, err := s.archive.commits(ctx, s.system, ix.Segment)
		if err != nil {
			return false, err
		}
		events = append(events, commits...)
	}
	events = append(events, ix.Events...)
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.LSN, b.LSN) })
	if ix.Commits.Last.After(s.clock) {
		s.clock = ix.Commits.Last
	}
	if ix.Damage != "" {
		s.archive.log.WarnContext(ctx, "the records of a segment are searched up to where it is damaged",
			"segment", ix.Segment.String(), "at", ix.End.String(), "damage", ix.Damage)
	}
	for _, e := range events {
		in := s.query.overlaps(e.Time, e.Time)
		if e.Time.IsZero() {
			in = s.query.overlaps(first, s.clock)
		}
		if in && s.query.wants(e.Kind) && !s.yield(e, nil) {
			return false, nil
		}
	}
	return true, nil
}

// commits reads the commits of a segment, but those whose records cross its ends.
func (a *Archive) commits(ctx context.Context, sys System, s Segment) ([]Event, error) {
	n, err := ParseName(s.Name())
	if err != nil {
		return nil, err
	}
	var all []Event
	scan := newScanner(nil, func(r *Record) bool {
		if e, ok := endOf(r); ok && e.Kind == EventCommit {
			all = append(all, e)
		}
		return true
	})
	if err := a.read(ctx, sys, n, scanning{scan}); err != nil {
		return nil, notMissing(err)
	}
	return all, nil
}

// scanning writes to a scanner. What cannot be read ends the records, and is told by the index.
type scanning struct{ s *scanner }

func (w scanning) Write(b []byte) (int, error) {
	_ = w.s.write(b)
	return len(b), nil
}
