package backup

import (
	"cmp"
	"math"
	"slices"
)

// extent is a part of a file, from an offset to before another.
type extent struct{ from, to int64 }

// toEnd is the end of an extent that goes on to the end of its file, wherever that is.
const toEnd = math.MaxInt64

// addExtent adds an extent behind the others.
func addExtent(all []extent, e extent) []extent {
	if n := len(all); n > 0 && all[n-1].to == e.from {
		all[n-1].to = e.to
		return all
	}
	return append(all, e)
}

// joinExtents returns what is in either of two lists, in ascending order.
func joinExtents(a, b []extent) (all []extent) {
	both := slices.Concat(a, b)
	slices.SortFunc(both, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
	for _, e := range both {
		all = coverExtent(all, e)
	}
	return all
}

// within tells whether an extent lies in one of others that ascend.
func within(all []extent, e extent) bool {
	i, _ := slices.BinarySearchFunc(all, e.from, func(x extent, from int64) int { return cmp.Compare(x.to, from+1) })
	return i < len(all) && all[i].from <= e.from && e.to <= all[i].to
}

// coverExtent adds an extent to others that ascend, and takes in those that it touches or begins before.
func coverExtent(all []extent, e extent) []extent {
	for len(all) > 0 && all[len(all)-1].to >= e.from {
		last := all[len(all)-1]
		all = all[:len(all)-1]
		e = extent{min(last.from, e.from), max(last.to, e.to)}
	}
	return append(all, e)
}
