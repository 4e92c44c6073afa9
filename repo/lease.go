package repo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/internal/process"
	"golang.org/x/sync/errgroup"
)

// leaseTTL is how long a lease lasts without being renewed; it is renewed after a third of that.
const leaseTTL = 2 * time.Minute

// LeaseError means that another holder has the lease.
type LeaseError struct {
	Name    string    // of the lease
	Host    string    // of the holder
	PID     int       // of the holder
	Expires time.Time // when it may be taken over, unless it is renewed
}

func (e *LeaseError) Error() string {
	return fmt.Sprintf("the lease %q is held by process %d on %s until %s", e.Name, e.PID, e.Host,
		e.Expires.UTC().Format(time.RFC3339))
}

// ErrLeaseLost means that a lease expired and was taken over, so that the work under it was cut short.
var ErrLeaseLost = errors.New("the lease was lost to another holder")

// Lease is a lease being held. It is safe for concurrent use.
type Lease struct {
	repo *Repo
	name string

	mu    sync.Mutex // held while renewing
	state leaseState
}

// leaseState is the content of leases/<name>/<fence>. Of several the highest fence counts. Objects are never
// overwritten, so a renewal is a new object too, and creating it exclusively is what decides between two holders.
type leaseState struct {
	Fence    uint64     `json:"fence"`
	Holder   string     `json:"holder"` // random
	Hostname string     `json:"hostname"`
	Process  process.ID `json:"process"`
	Expires  time.Time  `json:"expires"`
	Released bool       `json:"released"`
}

// WithLease takes the lease name, runs f while it keeps the lease, and releases it. When another holds it, the error is
// a *[LeaseError] and f is not run. A holder that died is known by its process being gone from this machine, or by its
// lease expiring, two minutes after it was last renewed; clocks of hosts that share a repository should agree to within
// a fraction of that. When the lease is lost, f's context is cancelled and the error is [ErrLeaseLost].
func (r *Repo) WithLease(ctx context.Context, name string, f func(context.Context, *Lease) error) error {
	l, err := r.acquire(ctx, name)
	if err != nil {
		return err
	}
	// Released even when ctx has been cancelled: the next one should not have to wait.
	defer l.release(context.WithoutCancel(ctx))
	g, gctx := errgroup.WithContext(ctx)
	done := make(chan struct{})
	g.Go(func() error { return l.keep(gctx, done) })
	err = f(gctx, l)
	close(done)
	if lost := g.Wait(); lost != nil {
		return lost // which is why f failed, if it did
	}
	return err
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
	next.Fence++
	next.Expires = l.repo.now().Add(leaseTTL)
	if err := l.repo.claim(ctx, l.name, next); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("repo: lease %s: %w", l.name, ErrLeaseLost)
	} else if err != nil {
		return fmt.Errorf("repo: renew lease %s: %w", l.name, err)
	}
	_ = l.repo.store.Delete(ctx, leaseKey(l.name, l.state.Fence)) // only the highest counts
	l.state = next
	return nil
}

// keep renews the lease until done. A renewal may fail for a while, as long as the lease lasts.
func (l *Lease) keep(ctx context.Context, done <-chan struct{}) error {
	tick := time.NewTicker(leaseTTL / 3)
	defer tick.Stop()
	expires := l.repo.now().Add(leaseTTL)
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return nil // f returns the reason
		case <-tick.C:
		}
		err := l.Confirm(ctx)
		switch {
		case err == nil:
			expires = l.repo.now().Add(leaseTTL)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrLeaseLost) || l.repo.now().After(expires):
			return err
		default:
			l.repo.log.WarnContext(ctx, "cannot renew the lease, trying again", "lease", l.name, "error", err)
		}
	}
}

// release marks the lease as free. Deleting alone would let the fence start over.
func (l *Lease) release(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.state
	next.Fence++
	next.Released = true
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := l.repo.writeLease(ctx, l.name, next); err != nil {
		l.repo.log.WarnContext(ctx, "cannot release the lease: it will expire", "lease", l.name, "error", err)
		return
	}
	_ = l.repo.store.Delete(ctx, leaseKey(l.name, l.state.Fence))
}

func (r *Repo) acquire(ctx context.Context, name string) (*Lease, error) {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "an unnamed host"
	}
	mine := leaseState{Holder: rand.Text(), Hostname: hostname, Process: process.Self()}
	cur, err := r.currentLease(ctx, name)
	if err != nil {
		return nil, err
	}
	if !cur.Released && r.now().Before(cur.Expires) && !process.Gone(cur.Process) {
		return nil, &LeaseError{Name: name, Host: cur.Hostname, PID: cur.Process.PID, Expires: cur.Expires}
	}
	mine.Fence = cur.Fence + 1
	mine.Expires = r.now().Add(leaseTTL)
	if err := r.claim(ctx, name, mine); errors.Is(err, fs.ErrExist) {
		return nil, &LeaseError{Name: name, Host: "another host or process", Expires: mine.Expires}
	} else if err != nil {
		return nil, fmt.Errorf("repo: take lease %s: %w", name, err)
	}
	l := &Lease{repo: r, name: name, state: mine}
	if cur.Fence > 0 {
		_ = r.store.Delete(ctx, leaseKey(name, cur.Fence))
	}
	return l, nil
}

// currentLease returns the lease with the highest fence; none at all counts as released.
func (r *Repo) currentLease(ctx context.Context, name string) (leaseState, error) {
	fence, err := r.highestFence(ctx, name)
	if err != nil {
		return leaseState{}, err
	}
	if fence == 0 {
		return leaseState{Released: true}, nil
	}
	s, err := r.readLease(ctx, name, fence)
	if errors.Is(err, fs.ErrNotExist) {
		// Its holder has just renewed it.
		return leaseState{}, &LeaseError{Name: name, Host: "another host or process", Expires: r.now().Add(leaseTTL)}
	}
	return s, err
}

func (r *Repo) highestFence(ctx context.Context, name string) (fence uint64, err error) {
	prefix := "leases/" + name + "/"
	for info, err := range r.store.List(ctx, prefix) {
		if err != nil {
			return 0, fmt.Errorf("repo: list leases: %w", err)
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(info.Key, prefix), 10, 64)
		if err != nil {
			return 0, corrupt(info.Key, "not a lease")
		}
		fence = max(fence, n)
	}
	return fence, nil
}

// claim writes a lease that must be the highest. It is an error matching fs.ErrExist when another holder got there
// first: he may have left any number of fences since, and deleted the one that s would take.
func (r *Repo) claim(ctx context.Context, name string, s leaseState) error {
	err := r.writeLease(ctx, name, s)
	if errors.Is(err, fs.ErrExist) {
		// The answer to an earlier try may have been lost.
		if cur, rerr := r.readLease(ctx, name, s.Fence); rerr != nil || cur.Holder != s.Holder {
			return err
		}
	} else if err != nil {
		return err
	}
	highest, err := r.highestFence(ctx, name)
	if err != nil {
		return err
	}
	if highest != s.Fence {
		_ = r.store.Delete(ctx, leaseKey(name, s.Fence))
		return fs.ErrExist
	}
	return nil
}

// leaseKey pads the fence, so that keys sort by it.
func leaseKey(name string, fence uint64) string { return fmt.Sprintf("leases/%s/%020d", name, fence) }

func (r *Repo) readLease(ctx context.Context, name string, fence uint64) (leaseState, error) {
	var s leaseState
	key := leaseKey(name, fence)
	if err := r.ReadRecord(ctx, key, &s); err != nil {
		return s, err
	}
	if s.Fence != fence {
		return s, corrupt(key, "it is lease %d", s.Fence)
	}
	return s, nil
}

func (r *Repo) writeLease(ctx context.Context, name string, s leaseState) error {
	return r.CreateRecord(ctx, leaseKey(name, s.Fence), s)
}
