package wal

import (
	"math/rand/v2"
	"time"
)

// Bounds of the time between attempts.
const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// backoff returns how long to wait after so many failures in a row, from 1: twice as long each time, of which the upper
// half is random, so that many receivers of one server do not come back all at once.
func backoff(failures int) time.Duration {
	d := min(minBackoff<<min(failures-1, 10), maxBackoff)
	return d/2 + rand.N(d/2) //nolint:gosec // no secret
}
