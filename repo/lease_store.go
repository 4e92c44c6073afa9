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
	"time"

	"github.com/pgcairn/pgcairn/internal/process"
)

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

// same tells whether two states say the same.
func (s leaseState) same(o leaseState) bool {
	return s.Fence == o.Fence && s.Holder == o.Holder && s.Expires.Equal(o.Expires) && s.Released == o.Released
}

// acquire takes a lease that is free.
func (r *Repo) acquire(ctx context.Context, name string) (*Lease, error) {
	if strings.Contains(name, "/") {
		return nil, &KeyError{Key: name, Reason: "is the name of a lease, and has several elements"}
	}
	cur, older, err := r.currentLease(ctx, name)
	if err != nil {
		return nil, err
	}
	if !cur.Released && r.now().Before(cur.Expires) && !process.Gone(cur.Process) {
		return nil, &LeaseError{Name: name, Host: cur.Hostname, PID: cur.Process.PID, Expires: cur.Expires}
	}
	mine := leaseState{Fence: cur.Fence + 1, Holder: rand.Text(), Process: process.Self(), Expires: r.now().Add(leaseTTL)}
	if mine.Hostname, err = os.Hostname(); err != nil {
		mine.Hostname = "an unnamed host"
	}
	mine, err = r.claim(ctx, name, mine)
	if errors.Is(err, fs.ErrExist) {
		return nil, &LeaseError{Name: name, Expires: r.now().Add(leaseTTL)}
	}
	if err != nil {
		r.abandon(context.WithoutCancel(ctx), name, mine)
		return nil, fmt.Errorf("repo: take lease %s: %w", name, err)
	}
	for _, fence := range older {
		_ = r.store.Delete(ctx, leaseKey(name, fence)) // only the highest counts
	}
	return &Lease{repo: r, name: name, state: mine}, nil
}

// abandon removes what a claim that has failed may have left behind: nobody holds that lease, but others would wait for
// it to expire.
func (r *Repo) abandon(ctx context.Context, name string, s leaseState) {
	ctx, cancel := context.WithTimeout(ctx, leaseMargin)
	defer cancel()
	if cur, err := r.readLease(ctx, name, s.Fence); err == nil && cur.Holder == s.Holder {
		_ = r.store.Delete(ctx, leaseKey(name, s.Fence))
	}
}

// currentLease returns the lease with the highest fence, and all fences there are. None at all counts as released.
func (r *Repo) currentLease(ctx context.Context, name string) (cur leaseState, fences []uint64, err error) {
	// When it is gone after it was listed, its holder has just renewed it.
	for range 3 {
		if fences, err = r.fences(ctx, name); err != nil {
			return leaseState{}, nil, err
		}
		if len(fences) == 0 {
			return leaseState{Released: true}, nil, nil
		}
		cur, err = r.readLease(ctx, name, fences[len(fences)-1])
		if err == nil {
			return cur, fences, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return leaseState{}, nil, err
		}
	}
	return leaseState{}, nil, &LeaseError{Name: name, Expires: r.now().Add(leaseTTL)}
}

// fences lists the fences of a lease, ascending.
func (r *Repo) fences(ctx context.Context, name string) (fences []uint64, err error) {
	prefix := "leases/" + name + "/"
	for info, err := range r.store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("repo: list leases: %w", err)
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(info.Key, prefix), 10, 64)
		if err != nil || n == 0 || info.Key != leaseKey(name, n) {
			return nil, corrupt(info.Key, "not a lease")
		}
		fences = append(fences, n)
	}
	return fences, nil
}

// claim writes a lease that must be the highest, and returns it as it is in the store, where an earlier try of the same
// holder may have written it before. It is an error matching fs.ErrExist when another holder got there first: he may
// have left any number of fences since, and deleted the one that s would take.
func (r *Repo) claim(ctx context.Context, name string, s leaseState) (leaseState, error) {
	err := r.CreateRecord(ctx, leaseKey(name, s.Fence), s)
	if errors.Is(err, fs.ErrExist) {
		cur, rerr := r.readLease(ctx, name, s.Fence)
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			return s, rerr
		}
		if rerr != nil || cur.Holder != s.Holder {
			return s, err
		}
		s = cur
	} else if err != nil {
		return s, err
	}
	all, err := r.fences(ctx, name)
	if err != nil {
		return s, err
	}
	if len(all) == 0 || all[len(all)-1] != s.Fence {
		_ = r.store.Delete(ctx, leaseKey(name, s.Fence))
		return s, fs.ErrExist
	}
	return s, nil
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
