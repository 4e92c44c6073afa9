// Package speed measures how fast something goes on, and how long the rest of it will take.
package speed

import (
	"math"
	"time"
)

const (
	span  = 10 * time.Second // over which a rate is measured
	least = time.Second      // before which it is not known
)

// Meter measures the rate of what it is shown from time to time. The zero value has seen nothing.
type Meter struct{ seen []reading }

type reading struct {
	at   time.Time
	done int64
}

// Measure returns the rate in bytes a second of the last ten seconds, and the time that the rest will take at that rate;
// both are 0 while they are not known, and the time also when nothing goes on.
func (s *Meter) Measure(now time.Time, done, total int64) (rate int64, remaining time.Duration) {
	if n := len(s.seen); n > 0 && now.Before(s.seen[n-1].at) {
		s.seen = nil // the clock was set
	}
	s.seen = append(s.seen, reading{at: now, done: done})
	for len(s.seen) > 2 && now.Sub(s.seen[1].at) >= span {
		s.seen = s.seen[1:]
	}
	first := s.seen[0]
	took := now.Sub(first.at)
	if took < least {
		return 0, 0
	}
	bytes := float64(done-first.done) / took.Seconds()
	if bytes < 1 {
		return 0, 0
	}
	rest := float64(max(0, total-done)) / bytes * float64(time.Second)
	return int64(bytes), time.Duration(min(rest, math.MaxInt64/2))
}
