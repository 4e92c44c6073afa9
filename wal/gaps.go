package wal

import (
	"cmp"
	"slices"
)

// Gaps returns the runs of segments that are missing between those held.
func (t TimelineCoverage) Gaps() []Range {
	var gaps []Range
	for i := 1; i < len(t.Ranges); i++ {
		gaps = append(gaps, Range{First: t.Ranges[i-1].Last.Next(), Last: t.Ranges[i].First.Prev()})
	}
	return gaps
}

// Gaps returns the runs of segments that are missing between what is held, ascending by timeline: those of each timeline
// ([TimelineCoverage.Gaps]), and those on the way from one timeline to the next.
func (c Coverage) Gaps() []Range {
	var gaps []Range
	add := func(first, behind Segment) {
		gap := Range{First: first, Last: behind.Prev()}
		if first.Number < behind.Number && !slices.Contains(gaps, gap) {
			gaps = append(gaps, gap)
		}
	}
	for _, t := range c.Timelines {
		gaps = append(gaps, t.Gaps()...)
	}
	for _, t := range c.Timelines {
		h, _ := c.History(t.Timeline)
		way, _ := c.Way(t.Timeline) // nothing where it is not known
		for i := 1; i < len(way); i++ {
			at, next := way[i-1].Last.Next(), way[i].First
			if at.Timeline == next.Timeline {
				continue // told already
			}
			for at.Timeline != next.Timeline {
				fork, on, left := h.Leaves(at)
				if !left {
					break
				}
				add(at, fork)
				at = fork.On(on)
			}
			add(at, next)
		}
	}
	slices.SortFunc(gaps, func(x, y Range) int {
		return cmp.Or(cmp.Compare(x.First.Timeline, y.First.Timeline), cmp.Compare(x.First.Number, y.First.Number))
	})
	return gaps
}
