package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// leaseTTL is how long a lease lasts without being renewed.
	leaseTTL = 2 * time.Minute
	// leaseRenewal is after how long a lease is renewed, and leaseRetry after how long again when that has failed.
	leaseRenewal = leaseTTL / 3
	leaseRetry   = leaseTTL / 12
	// leaseMargin is how long before its lease expires a holder gives up that cannot renew it.
	leaseMargin = leaseTTL / 12
)

// LeaseError means that another holder has the lease.
type LeaseError struct {
	Name    string    // of the lease
	Host    string    // of the holder; empty when another got it just now
	PID     int       // of the holder
	Expires time.Time // when it may be taken over, unless it is renewed
}

func (e *LeaseError) Error() string {
	holder := "another host or process"
	if e.Host != "" {
		holder = fmt.Sprintf("process %d on %s", e.PID, e.Host)
	}
	return fmt.Sprintf("the lease %q is held by %s until %s", e.Name, holder, e.Expires.UTC().Format(time.RFC3339))
}

// ErrLeaseLost means that a lease was taken over, or could not be renewed in time, so that the work under it was cut
// short.
var ErrLeaseLost = errors.New("the lease was lost: it expired, and another may hold it")

// Lease is a lease being held. It is safe for concurrent use.
type Lease struct {
	repo *Repo
	name string

	mu    sync.Mutex // held while renewing
	state leaseState // as it is in the store
	over  bool       // released or lost
}

// WithLease takes the lease name, an element of a key, runs f while it keeps the lease, and releases it. When another
// holds it, the error is a *[LeaseError] and f is not run. A holder that died is known by its process being gone from this
// machine, or by its lease expiring, two minutes after it was last renewed, by the clock of this host and by that of the
// store: hosts whose clocks differ wait longer, and never take a lease from one that is at work. When the lease is lost,
// f's context is cancelled and the error matches [ErrLeaseLost], whatever f returns.
func (r *Repo) WithLease(ctx context.Context, name string, f func(context.Context, *Lease) error) (err error) {
	l, err := r.acquire(ctx, name)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	keeping, stop := context.WithCancel(gctx)
	g.Go(func() error { return l.keep(keeping) })
	// This also runs when f panics. Its lease is released even when ctx has been cancelled: the next one should not
	// have to wait.
	defer func() {
		stop()
		if lost := g.Wait(); lost != nil {
			err = lost // which is why f failed, if it did
		}
		l.release(context.WithoutCancel(ctx))
	}()
	return f(gctx, l)
}

// Fence is a number that grows with every holder and renewal.
func (l *Lease) Fence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Fence
}

// Confirm renews the lease now, or fails with [ErrLeaseLost]. It is called just before a commit that must not happen
// when somebody else has taken over.
func (l *Lease) Confirm(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.state
	next.Expires = l.repo.now().Add(leaseTTL)
	err := l.advance(ctx, next)
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		return fmt.Errorf("repo: renew lease %s: %w", l.name, err)
	}
	return err
}

// Left is how long the holder may still work without a renewal, by this host's clock; it is not positive when the lease may
// be another's. It makes no request: who was stopped for a while, as a virtual machine can be, asks before he goes on.
func (l *Lease) Left() time.Duration { return l.left() }

// advance replaces the lease by its next state. l.mu is held.
func (l *Lease) advance(ctx context.Context, next leaseState) error {
	for !l.over {
		next.Fence = l.state.Fence + 1
		stored, err := l.repo.claim(ctx, l.name, next)
		if errors.Is(err, fs.ErrExist) {
			l.over = true
			break
		}
		if err != nil {
			return err
		}
		_ = l.repo.store.Delete(ctx, leaseKey(l.name, l.state.Fence)) // only the highest counts
		l.state = stored
		if stored.same(next) {
			return nil
		}
		// An earlier try had been written after all; but it expires earlier.
	}
	return fmt.Errorf("repo: lease %s: %w", l.name, ErrLeaseLost)
}

// keep renews the lease until ctx ends. A renewal may fail for a while, as long as the lease lasts.
func (l *Lease) keep(ctx context.Context) error {
	for wait := leaseRenewal; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil // f returns the reason
		case <-timer.C:
		}
		err := l.renew(ctx)
		left := l.left()
		switch {
		case err == nil:
			wait = leaseRenewal
		case errors.Is(err, ErrLeaseLost):
			return err
		case ctx.Err() != nil:
			return nil //nolint:nilerr // f returns the reason
		case left <= 0:
			return fmt.Errorf("repo: lease %s: %w: %w", l.name, ErrLeaseLost, err)
		default:
			wait = min(leaseRetry, left)
			l.repo.log.WarnContext(ctx, "cannot renew the lease, trying again", "lease", l.name, "error", err)
		}
	}
}

// renew is Confirm for as long as there is time, so that a store that does not answer fails it too.
func (l *Lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(l.left(), leaseMargin))
	defer cancel()
	return l.Confirm(ctx)
}

// left is how long the holder may still work without a renewal.
func (l *Lease) left() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0
	}
	// The monotonic clock stands still while a host is suspended, and the wall clock may be set late after that.
	now := l.repo.now()
	return min(l.state.Expires.Sub(now), l.state.Expires.Round(0).Sub(now.Round(0))) - leaseMargin
}

// release marks the lease as free. Deleting alone would let the fence start over.
func (l *Lease) release(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseMargin)
	defer cancel()
	defer func() { l.over = true }()
	next := l.state
	next.Released = true
	var err error
	for range 3 {
		if err = l.advance(ctx, next); err == nil || errors.Is(err, ErrLeaseLost) {
			return
		}
	}
	l.repo.log.WarnContext(ctx, "cannot release the lease: it will expire", "lease", l.name, "error", err)
}
