package backup

import "math"

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
