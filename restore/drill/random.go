package drill

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// ErrNothing means that there is nothing to choose from.
var ErrNothing = errors.New("drill: there is nothing that could be recovered")

// RandomBackup chooses one of some backups, whichever they are, for a drill to its consistent state.
func RandomBackup(all []*backup.Summary, r *rand.Rand) (restore.Target, *restore.PlanOptions, error) {
	if len(all) == 0 {
		return restore.Target{}, nil, ErrNothing
	}
	b := all[r.IntN(len(all))]
	return restore.Immediate(), &restore.PlanOptions{Backup: b.ID, SystemID: b.SystemID}, nil
}

// RandomMoment chooses a moment that can be recovered, any byte of WAL being as likely as another: it is a time where the
// coverage knows of commits before and after it (see [wal.Archive.Times]), and else a position. A window that holds but
// one moment stands for that.
func RandomMoment(all []*backup.Summary, c wal.Coverage, r *rand.Rand) (restore.Target, *restore.PlanOptions, error) {
	windows := restore.Windows(all, c)
	var sum uint64
	for _, w := range windows {
		sum += length(w)
	}
	if sum == 0 {
		return restore.Target{}, nil, ErrNothing
	}
	at := r.Uint64N(sum)
	for _, w := range windows {
		if at < length(w) {
			o := &restore.PlanOptions{SystemID: c.System.ID, Timeline: w.Timeline}
			t := within(w, c, r)
			if t.Kind == restore.KindImmediate {
				o.Backup, o.Timeline = w.Backup, 0
			}
			return t, o, nil
		}
		at -= length(w)
	}
	return restore.Target{}, nil, ErrNothing
}

// length is that of a window's WAL, in bytes.
func length(w restore.Window) uint64 { return max(1, uint64(w.ToLSN-w.FromLSN)) }

// within chooses a moment within a window.
func within(w restore.Window, c wal.Coverage, r *rand.Rand) restore.Target {
	// A record begins in the last segment, if it is not one that is longer than that. So before it any position has a
	// record behind it.
	last := wal.SegmentAt(w.Timeline, w.ToLSN-1, c.System.SegmentSize).Start()
	positions := uint64(max(last, w.FromLSN) - w.FromLSN)
	// PostgreSQL ends at the first commit after a time, so there has to be one. It counts in microseconds.
	committed := slices.ContainsFunc(c.Timelines, func(t wal.TimelineCoverage) bool {
		return slices.ContainsFunc(t.Ranges, func(r wal.Range) bool { return r.LastCommit.Equal(w.ToTime) })
	})
	var times int64 // after the first and before the last
	if committed {
		times = max(1, int64(w.ToTime.Sub(w.FromTime)/time.Microsecond)) - 1
	}
	switch {
	case times > 0 && (positions == 0 || r.IntN(2) == 0):
		return restore.AtTime(w.FromTime.Add(time.Duration(1+r.Int64N(times)) * time.Microsecond))
	case positions > 0:
		return restore.AtLSN(w.FromLSN + wal.LSN(r.Uint64N(positions)))
	}
	return restore.Immediate()
}
