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

	"github.com/pgcairn/pgcairn/internal/objerr"
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

	renewed time.Time // by the store's clock
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
	if !cur.Released && !process.Gone(cur.Process) {
		expired, err := r.expired(ctx, cur)
		if err != nil {
			return nil, fmt.Errorf("repo: take lease %s: %w", name, err)
		}
		if !expired {
			return nil, &LeaseError{Name: name, Host: cur.Hostname, PID: cur.Process.PID, Expires: cur.Expires}
		}
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
		// Another may have had that fence, and be past it: a bucket that keeps versions refuses what is hidden by a marker.
		if now, _, nerr := r.currentLease(ctx, name); nerr == nil && now.Fence >= mine.Fence && now.Holder != mine.Holder {
			return nil, &LeaseError{Name: name, Host: now.Hostname, PID: now.Process.PID, Expires: now.Expires}
		}
		return nil, fmt.Errorf("repo: take lease %s: %w", name, err)
	}
	for _, fence := range older {
		_ = r.store.Delete(ctx, leaseKey(name, fence)) // only the highest counts
	}
	return &Lease{repo: r, name: name, state: mine}, nil
}

// expired tells whether a lease has expired: by this host's clock, and by the store's, since the holder's clock may be
// another. What is to be taken from somebody who may be at work is worth three requests.
func (r *Repo) expired(ctx context.Context, s leaseState) (bool, error) {
	if r.now().Before(s.Expires) {
		return false, nil
	}
	now, err := r.storeTime(ctx)
	if err != nil {
		return false, err
	}
	return now.Sub(s.renewed) > leaseTTL, nil
}

// storeTime asks the store what time it is.
func (r *Repo) storeTime(ctx context.Context) (time.Time, error) {
	key := "probe/" + rand.Text()
	// A store that repeats a request whose answer was lost finds the key taken; nobody else can have made it.
	if err := writeSmall(ctx, r.store, key, []byte("what time is it?\n")); err != nil && !errors.Is(err, fs.ErrExist) {
		return time.Time{}, err
	}
	info, err := r.store.Stat(ctx, key)
	_ = r.store.Delete(ctx, key) // left behind, it means nothing
	if err != nil {
		return time.Time{}, objerr.Failed(ctx, "stat", key, err)
	}
	return info.ModTime, nil
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
		var renewed time.Time
		if fences, renewed, err = r.fences(ctx, name); err != nil {
			return leaseState{}, nil, err
		}
		if len(fences) == 0 {
			return leaseState{Released: true}, nil, nil
		}
		cur, err = r.readLease(ctx, name, fences[len(fences)-1])
		if err == nil {
			cur.renewed = renewed
			return cur, fences, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return leaseState{}, nil, err
		}
	}
	return leaseState{}, nil, &LeaseError{Name: name, Expires: r.now().Add(leaseTTL)}
}

// fences lists the fences of a lease, ascending, and when the last one was made.
func (r *Repo) fences(ctx context.Context, name string) (fences []uint64, last time.Time, err error) {
	for info, err := range r.store.List(ctx, leaseFolder+name+"/") {
		if err != nil {
			return nil, last, fmt.Errorf("repo: list leases: %w", err)
		}
		_, n, err := parseLeaseKey(info.Key)
		if err != nil {
			return nil, last, err
		}
		fences, last = append(fences, n), info.ModTime
	}
	return fences, last, nil
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
	all, _, err := r.fences(ctx, name)
	if err != nil {
		return s, err
	}
	if len(all) == 0 || all[len(all)-1] != s.Fence {
		_ = r.store.Delete(ctx, leaseKey(name, s.Fence))
		return s, fs.ErrExist
	}
	return s, nil
}

const leaseFolder = "leases/"

// leaseKey pads the fence, so that keys sort by it.
func leaseKey(name string, fence uint64) string {
	return fmt.Sprintf(leaseFolder+"%s/%020d", name, fence)
}

func parseLeaseKey(key string) (name string, fence uint64, err error) {
	name, digits, _ := strings.Cut(strings.TrimPrefix(key, leaseFolder), "/")
	fence, err = strconv.ParseUint(digits, 10, 64)
	if err != nil || fence == 0 || key != leaseKey(name, fence) {
		return "", 0, corrupt(key, "not a lease")
	}
	return name, fence, nil
}

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
