package wal

import (
	"context"
	"fmt"
	"io"
)

// Summarize puts together the indexes of the segments of a timeline from first to last, both of which are in it, as the
// function [Summarize] does: by a request for each group where they are rolled up. Of a segment that is not archived,
// other is asked for the content, which it reads up to where it is valid. What this host has pushed itself it also
// summarizes where it cannot read.
func (a *Archive) Summarize(ctx context.Context, first, last Segment, other func(Segment) (io.ReadCloser, error)) (*Summary, error) {
	sys, err := a.System(ctx)
	if err != nil {
		return nil, notMissing(err)
	}
	sum := &summing{}
	for s := first; s.Number <= last.Number; {
		g := groupOf(s)
		end := min(g.end(), last.Number+1)
		indexes, err := a.groupIndexes(ctx, sys, s, end)
		if err != nil {
			return nil, fmt.Errorf("wal: summarize: %w", err)
		}
		for ; s.Number < end; s = s.Next() {
			ix := indexes[s.Number]
			if ix == nil {
				if ix, err = indexOther(s, other); err != nil {
					return nil, fmt.Errorf("wal: summarize: %s is not archived: %w", s, err)
				}
			}
			if err := sum.add(ix); err != nil {
				return nil, err
			}
		}
	}
	return &sum.Summary, nil
}

// groupIndexes returns the indexes of the segments of a group from one on up to before end, by their numbers: of those
// that are archived.
func (a *Archive) groupIndexes(ctx context.Context, sys System, from Segment, end uint64) (map[uint64]*Index, error) {
	found := map[uint64]*Index{}
	var asked []Segment
	g := groupOf(from)
	for info, err := range a.repo.Store().List(ctx, sys.groupPrefix(g.name())) {
		if err != nil {
			return nil, err
		}
		n, err := sys.parseKey(info.Key)
		if err != nil || n.Kind != KindSegment {
			continue
		}
		s, err := n.Segment(sys.SegmentSize)
		if err != nil || s.Number < from.Number || s.Number >= end || groupOf(s) != g {
			continue
		}
		if ix := a.keptIndex(sys, s); ix != nil {
			found[s.Number] = ix
		} else {
			asked = append(asked, s)
		}
	}
	if len(asked) == 0 {
		return found, nil
	}
	read, err := a.indexesOf(ctx, sys, asked, true)
	if err != nil {
		return nil, notMissing(err) // they were listed a moment ago
	}
	for _, ix := range read {
		found[ix.Segment.Number] = ix
	}
	return found, nil
}

// keptIndex is the index of an archived segment that this host has pushed, or nil.
func (a *Archive) keptIndex(sys System, s Segment) *Index {
	kept := a.kept.of(sys)
	if kept.dir == "" {
		return nil
	}
	b, err := kept.read(s)
	if err != nil {
		return nil
	}
	ix := new(Index)
	if ix.UnmarshalBinary(b) != nil || ix.Segment != s {
		return nil
	}
	return ix
}

func indexOther(s Segment, other func(Segment) (io.ReadCloser, error)) (*Index, error) {
	r, err := other(s)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return IndexSegment(s, r)
}
