package repo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/internal/process"
)

// Hold runs f while a lease, whose name begins with name and a dot and is nobody else's, tells others that something is in
// use: any number can hold the same, and [Repo.Leases] shows who does. It is for those who read what others might delete,
// and who may not be able to write: where the lease cannot be had, or is lost, that is logged, and f goes on.
func (r *Repo) Hold(ctx context.Context, name string, f func(context.Context) error) error {
	l, err := r.acquire(ctx, name+"."+rand.Text())
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.log.InfoContext(ctx, "others are not told that this is in use", "lease", name, "error", err)
		return f(ctx)
	}
	keeping, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- l.keep(keeping) }()
	defer func() {
		stop()
		if lost := <-done; lost != nil {
			r.log.WarnContext(ctx, "others were not told any more that this is in use", "lease", name, "error", lost)
			return
		}
		after := context.WithoutCancel(ctx)
		l.release(after)
		// Nobody takes this lease after us, so that its fence may be forgotten.
		after, cancel := context.WithTimeout(after, leaseMargin)
		defer cancel()
		_ = r.store.Delete(after, leaseKey(l.name, l.Fence()))
	}()
	return f(ctx)
}

// LeaseInfo is what is known of a lease that somebody holds, or held when he died.
type LeaseInfo struct {
	Name    string    `json:"name"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Renewed time.Time `json:"renewed_at"` // by the store's clock
	Expires time.Time `json:"expires_at"` // by the holder's clock; past, where he is gone or was cut off
}

// Leases returns the leases whose names begin with prefix, in their order, but those that were released or whose holder is
// known to be gone. It lists the leases, and reads one object of each.
func (r *Repo) Leases(ctx context.Context, prefix string) ([]LeaseInfo, error) {
	var names []string
	for info, err := range r.store.List(ctx, leaseFolder+prefix) {
		if err != nil {
			return nil, fmt.Errorf("repo: list leases: %w", err)
		}
		name, _, err := parseLeaseKey(info.Key)
		if err != nil {
			return nil, err
		}
		if n := len(names); n == 0 || names[n-1] != name {
			names = append(names, name)
		}
	}
	held := make([]LeaseInfo, 0, len(names))
	for _, name := range names {
		cur, _, err := r.currentLease(ctx, name)
		var renewing *LeaseError
		switch {
		case errors.As(err, &renewing):
			cur = leaseState{Expires: renewing.Expires, renewed: r.now()}
		case err != nil:
			return nil, err
		case cur.Released || process.Gone(cur.Process):
			continue
		}
		held = append(held, LeaseInfo{Name: name, Host: cur.Hostname, PID: cur.Process.PID, Renewed: cur.renewed, Expires: cur.Expires})
	}
	return held, nil
}
