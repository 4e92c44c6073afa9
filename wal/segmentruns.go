package wal

import (
	"cmp"
	"slices"
)

// segmentRuns are segments of one timeline, as runs of them, ascending. They may come in any order.
type segmentRuns struct{ runs []Range }

// at finds the run that a segment is in, or else where one with it belongs.
func (r *segmentRuns) at(n uint64) (int, bool) {
	return slices.BinarySearchFunc(r.runs, n, func(run Range, n uint64) int {
		if run.First.Number <= n && n <= run.Last.Number {
			return 0
		}
		return cmp.Compare(run.First.Number, n)
	})
}

func (r *segmentRuns) has(s Segment) bool {
	if r == nil {
		return false
	}
	_, found := r.at(s.Number)
	return found
}

func (r *segmentRuns) add(s Segment) {
	i, found := r.at(s.Number)
	if found {
		return
	}
	follows := i > 0 && r.runs[i-1].Last.Number+1 == s.Number
	leads := i < len(r.runs) && r.runs[i].First.Number == s.Number+1
	switch {
	case follows && leads:
		r.runs[i-1].Last = r.runs[i].Last
		r.runs = slices.Delete(r.runs, i, i+1)
	case follows:
		r.runs[i-1].Last = s
	case leads:
		r.runs[i].First = s
	default:
		r.runs = slices.Insert(r.runs, i, Range{First: s, Last: s})
	}
}
