// Package pace keeps work below a rate, without bursts. A token bucket, such as golang.org/x/time/rate, allows a burst
// of its size whenever it was idle, and its size cannot be less than the largest piece of work; here nothing is saved up.
package pace

import (
	"context"
	"time"
)

// makeUp bounds what is made up for when a timer was late, or the workers were.
const makeUp = 20 * time.Millisecond

// Pacer lets its callers, together, do so much and no more. It is safe for concurrent use. A nil one sets no limit.
type Pacer struct {
	rate float64 // bytes a second
	now  func() time.Time
	turn chan slot // holds the slot, unless a caller has it, who waits: the others wait for him, in order
}

// slot is the part of time that the latest caller's bytes take.
type slot struct {
	end  time.Time
	took time.Duration
}

// New returns a Pacer of rate bytes a second, or nil, no limit, when it is not positive.
func New(rate int64, now func() time.Time) *Pacer {
	if rate <= 0 {
		return nil
	}
	p := &Pacer{rate: float64(rate), now: now, turn: make(chan slot, 1)}
	p.turn <- slot{end: now()}
	return p
}

// Wait returns when the caller may go on with n bytes, or ctx is done. In any stretch of time at most as many bytes are
// let through as the rate allows in 20 ms more, and one caller's.
func (p *Pacer) Wait(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil || p == nil {
		return err
	}
	var s slot
	select {
	case s = <-p.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { p.turn <- s }()
	// Nobody has to wait for longer than the latest caller's bytes take, whatever the clock says: it may have been set,
	// or stand still.
	if wait := min(s.end.Sub(p.now()), s.took); wait > 0 {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	begin := p.now().Add(-makeUp)
	if s.end.After(begin) {
		begin = s.end
	}
	s.took = time.Duration(float64(n) / p.rate * float64(time.Second))
	s.end = begin.Add(s.took)
	return nil
}

// Bounds of Piece, in bytes.
const (
	minPiece = 32 << 10
	maxPiece = 1 << 20
)

// Piece is how many bytes to do at a time, so that there is neither a burst nor a long wait: what the rate allows in
// 20 ms, in steps of 32 KiB, and 1 MiB at most.
func (p *Pacer) Piece() int {
	if p == nil {
		return maxPiece
	}
	n := min(p.rate*makeUp.Seconds(), maxPiece)
	return max(minPiece, int(n)/minPiece*minPiece)
}
