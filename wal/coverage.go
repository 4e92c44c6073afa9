package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"
)

// Coverage is what an archive holds.
type Coverage struct {
	System    System
	Timelines []TimelineCoverage // ascending
}

// TimelineCoverage is what an archive holds of one timeline.
type TimelineCoverage struct {
	Timeline Timeline
	History  *History // where it came from; nil for the first, and when it was not archived
	Ranges   []Range  // ascending, with gaps between them
	Segments int      // that are held
	Bytes    int64    // that they take, as stored
	Partial  *Partial // what there is of a segment after them; nil for nothing
}

// Range is a run of segments of one timeline; both ends are in it.
type Range struct {
	First, Last Segment

	// FirstCommit and LastCommit are when transactions committed, once [Archive.Times] has filled them in; zero when none
	// did.
	FirstCommit, LastCommit time.Time
}

// Timeline returns what is held of a timeline, or nil.
func (c Coverage) Timeline(t Timeline) *TimelineCoverage {
	for i := range c.Timelines {
		if c.Timelines[i].Timeline == t {
			return &c.Timelines[i]
		}
	}
	return nil
}

// Holds tells whether a segment is held.
func (c Coverage) Holds(s Segment) bool {
	last, ok := c.From(s)
	return ok && last.Number >= s.Number
}

// From returns the last segment that is held without a gap from first on, or ok false when first itself is not.
func (c Coverage) From(first Segment) (last Segment, ok bool) {
	t := c.Timeline(first.Timeline)
	if t == nil {
		return Segment{}, false
	}
	for _, r := range t.Ranges {
		if r.First.Number <= first.Number && first.Number <= r.Last.Number {
			return r.Last, true
		}
	}
	return Segment{}, false
}

// History returns how the WAL came to a timeline. The first has no history; another's must be archived.
func (c Coverage) History(t Timeline) (History, bool) {
	if t == 1 {
		return History{Timeline: 1}, true
	}
	if tc := c.Timeline(t); tc != nil && tc.History != nil {
		return *tc.History, true
	}
	return History{}, false
}

// Held returns what is held of the timeline, ascending: its ranges, and behind them the segment that is held in part.
func (t TimelineCoverage) Held() []Range {
	held := slices.Clone(t.Ranges)
	if t.Partial != nil {
		held = append(held, Range{First: t.Partial.Segment, Last: t.Partial.Segment})
	}
	return held
}

// Way returns what is held on the way to a timeline, ascending, with gaps between the ranges where segments are missing;
// of the timeline itself, the last segment may be held in part. ok is false where it is not known how the WAL came to the
// timeline. When the commits of each range were is not told.
func (c Coverage) Way(t Timeline) (way []Range, ok bool) {
	h, ok := c.History(t)
	if !ok {
		return nil, false
	}
	from := uint64(0)
	add := func(held []Range, until uint64) {
		for _, r := range held {
			r = Range{First: r.First, Last: r.Last}
			r.First.Number = max(r.First.Number, from)
			if until <= r.Last.Number {
				r.Last.Number = until - 1
			}
			if until > 0 && r.First.Number <= r.Last.Number {
				way = append(way, r)
			}
		}
	}
	for _, f := range h.Forks {
		// The segment in which a timeline was left is on the next one as well, with all that was there before.
		fork := uint64(f.At) / uint64(c.System.SegmentSize)
		if t := c.Timeline(f.Timeline); t != nil {
			add(t.Ranges, fork)
		}
		from = fork
	}
	if own := c.Timeline(t); own != nil {
		add(own.Held(), ^uint64(0))
	}
	return way, true
}

// Coverage lists the archive. An archive that nothing was pushed to is the zero Coverage.
func (a *Archive) Coverage(ctx context.Context) (Coverage, error) {
	sys, err := a.System(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return Coverage{}, nil
	}
	if err != nil {
		return Coverage{}, err
	}
	// Before the segments: once a segment is archived, its pieces are deleted.
	pieces, err := a.listPieces(ctx, sys, sys.piecesPrefix())
	if err != nil {
		return Coverage{}, err
	}
	found := map[Timeline]*TimelineCoverage{}
	var histories []Name
	for info, err := range a.repo.Store().List(ctx, sys.prefix()) {
		if err != nil {
			return Coverage{}, fmt.Errorf("wal: list the archive: %w", err)
		}
		n, err := sys.parseKey(info.Key)
		if err != nil {
			continue // of a later version
		}
		t := found[n.Timeline]
		if t == nil {
			t = &TimelineCoverage{Timeline: n.Timeline}
			found[n.Timeline] = t
		}
		switch n.Kind {
		case KindHistory:
			histories = append(histories, n)
		case KindSegment:
			s, err := n.Segment(sys.SegmentSize)
			if err != nil {
				return Coverage{}, fmt.Errorf("wal: list the archive: %w", err)
			}
			t.add(s, info.Size)
		}
	}
	for _, n := range histories {
		h, err := a.history(ctx, sys, n)
		if err != nil {
			return Coverage{}, err
		}
		found[n.Timeline].History = &h
	}
	addPartials(found, pieces)
	c := Coverage{System: sys}
	for _, t := range slices.Sorted(maps.Keys(found)) {
		c.Timelines = append(c.Timelines, *found[t])
	}
	return c, nil
}

// add counts a segment; they come in order.
func (t *TimelineCoverage) add(s Segment, size int64) {
	t.Segments++
	t.Bytes += size
	if n := len(t.Ranges); n > 0 && t.Ranges[n-1].Last.Number+1 == s.Number {
		t.Ranges[n-1].Last = s
		return
	}
	t.Ranges = append(t.Ranges, Range{First: s, Last: s})
}

// history reads and parses an archived history.
func (a *Archive) history(ctx context.Context, sys System, n Name) (History, error) {
	obj, err := a.repo.OpenObject(ctx, sys.key(n))
	if err != nil {
		return History{}, notMissing(fmt.Errorf("wal: read %s: %w", n, err)) // it was listed a moment ago
	}
	defer obj.Close()
	text, err := io.ReadAll(io.LimitReader(obj, maxHistory+1))
	if err != nil {
		return History{}, fmt.Errorf("wal: read %s: %w", n, err)
	}
	return ParseHistory(n.Timeline, text)
}
