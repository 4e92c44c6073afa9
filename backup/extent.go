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

// between returns what lies between disjoint extents, and before and behind them, in ascending order.
func between(all []extent) []extent {
	slices.SortFunc(all, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
	var gaps []extent
	at := int64(0)
	for _, e := range all {
		if e.from > at {
			gaps = append(gaps, extent{at, e.from})
		}
		at = e.to
	}
	return append(gaps, extent{at, toEnd})
}
