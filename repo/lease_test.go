package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// leaser opens the repository in s with the clock of the bubble, or one that is off by so much.
func leaser(t *testing.T, s repo.Store, off time.Duration) *repo.Repo {
	t.Helper()
	r, err := repo.Init(t.Context(), s, &repo.Options{Now: func() time.Time { return time.Now().Add(off) }})
	require.NoError(t, err)
	return r
}

// tryLease takes a lease and gives it back.
func tryLease(ctx context.Context, r *repo.Repo) error {
	return r.WithLease(ctx, "backup", func(context.Context, *repo.Lease) error { return nil })
}

func TestLeaseIsExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repotest.Mem(nil)
		a, b := leaser(t, s, 0), leaser(t, s, 0)
		var fences []uint64
		for _, r := range []*repo.Repo{a, b, a} {
			err := r.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
				fences = append(fences, l.Fence())
				for _, other := range []*repo.Repo{a, b} {
					err := tryLease(ctx, other)
					var held *repo.LeaseError
					require.ErrorAs(t, err, &held)
					host, herr := os.Hostname()
					require.NoError(t, herr)
					assert.Equal(t, repo.LeaseError{Name: "backup", Host: host, PID: os.Getpid(), Expires: held.Expires}, *held)
					assert.True(t, time.Now().Add(2*time.Minute).Equal(held.Expires))
					assert.Equal(t, fmt.Sprintf(`the lease "backup" is held by process %d on %s until 2000-01-01T00:02:00Z`, os.Getpid(), host), err.Error())
				}
				return other(ctx, b) // a lease of another name is another lease
			})
			require.NoError(t, err, "free at once when it was released")
		}
		require.Len(t, fences, 3)
		assert.Less(t, fences[0], fences[1])
		assert.Less(t, fences[1], fences[2])
		assert.Len(t, storedKeys(t, s, "leases/"), 2, "no litter")
	})
}

func other(ctx context.Context, r *repo.Repo) error {
	return r.WithLease(ctx, "retention", func(context.Context, *repo.Lease) error { return nil })
}

func TestLeaseErrorOfUnknownHolder(t *testing.T) {
	err := &repo.LeaseError{Name: "backup", Expires: testTime}
	assert.Equal(t, `the lease "backup" is held by another host or process until 2026-11-21T10:15:30Z`, err.Error())
}

func TestLeaseResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repotest.Mem(nil)
		r := leaser(t, s, 0)
		err := r.WithLease(t.Context(), "backup", func(context.Context, *repo.Lease) error { return errBoom })
		require.Equal(t, errBoom, err)
		require.NoError(t, tryLease(t.Context(), r), "released all the same")

		ctx, cancel := context.WithCancel(t.Context())
		err = r.WithLease(ctx, "backup", func(ctx context.Context, _ *repo.Lease) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, repo.ErrLeaseLost)
		require.NoError(t, tryLease(t.Context(), r), "released although cancelled")

		ran := false
		err = r.WithLease(ctx, "backup", func(context.Context, *repo.Lease) error { ran = true; return nil })
		require.ErrorIs(t, err, context.Canceled)
		assert.False(t, ran)
	})
}

func TestLeaseName(t *testing.T) {
	r := leaser(t, repotest.Mem(nil), 0)
	for _, name := range []string{"", ".", "..", "a/b", "a/../b", "a\x00"} {
		err := r.WithLease(t.Context(), name, func(context.Context, *repo.Lease) error { return errWrong })
		var keyErr *repo.KeyError
		require.ErrorAs(t, err, &keyErr, "%q", name)
	}
}

// A lease ends with the function it was taken for, also when that never returns.
func TestLeaseAfterPanic(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic(errBoom) }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // it fails when a goroutine goes on
				s := repotest.Mem(nil)
				r := leaser(t, s, 0)
				var kept *repo.Lease
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() {
						if v := recover(); v != nil {
							assert.Equal(t, any(errBoom), v)
						}
					}()
					_ = r.WithLease(t.Context(), "backup", func(_ context.Context, l *repo.Lease) error {
						kept = l
						end()
						return nil
					})
				}()
				<-done
				require.NoError(t, tryLease(t.Context(), r))
				time.Sleep(time.Hour)
				require.ErrorIs(t, kept.Confirm(t.Context()), repo.ErrLeaseLost, "it is over")
				require.NoError(t, tryLease(t.Context(), r))
			})
		})
	}
}

// Whoever keeps a *Lease has nothing.
func TestLeaseConfirmAfterRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := leaser(t, repotest.Mem(nil), 0)
		var kept *repo.Lease
		require.NoError(t, r.WithLease(t.Context(), "backup", func(_ context.Context, l *repo.Lease) error { kept = l; return nil }))
		require.ErrorIs(t, kept.Confirm(t.Context()), repo.ErrLeaseLost)
		require.NoError(t, tryLease(t.Context(), r))
	})
}

func TestLeaseIsKeptForHours(t *testing.T) {
	for name, s := range map[string]repo.Store{
		"always":            repotest.Mem(nil),
		"without deletes":   repotest.Faulty(repotest.Mem(nil), repotest.Fault{Op: repotest.OpDelete}),
		"with lost answers": &forgetful{Store: repotest.Mem(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := leaser(t, s, 0), leaser(t, s, 0)
				began := time.Now()
				var last uint64
				err := a.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
					for time.Since(began) < 5*time.Hour {
						time.Sleep(23 * time.Second)
						require.NoError(t, ctx.Err())
						var held *repo.LeaseError
						require.ErrorAs(t, tryLease(ctx, b), &held)
						require.GreaterOrEqual(t, l.Fence(), last)
						last = l.Fence()
					}
					return ctx.Err()
				})
				require.NoError(t, err)
				assert.Greater(t, last, uint64(100))
				err = tryLease(t.Context(), b)
				if errors.Is(err, repotest.ErrInjected) {
					err = tryLease(t.Context(), b)
				}
				require.NoError(t, err)
				if name == "always" {
					assert.Len(t, storedKeys(t, s, "leases/"), 1)
				}
			})
		})
	}
}

// forgetful is a store whose every other answer to a commit of a lease is lost.
type forgetful struct {
	repo.Store

	n atomic.Int64
}

func (s *forgetful) Create(ctx context.Context, key string) (repo.Writer, error) {
	w, err := s.Store.Create(ctx, key)
	if err == nil && key != "pgcairn.json" && s.n.Add(1)%2 == 0 {
		return lossy{w}, nil
	}
	return w, err
}

type lossy struct{ repo.Writer }

func (w lossy) Commit() (repo.Info, error) {
	if _, err := w.Writer.Commit(); err != nil {
		return repo.Info{}, err
	}
	return repo.Info{}, repotest.ErrInjected
}

// Two hosts, one of which is cut off from the store: it stops before the other can begin.
func TestLeaseWithoutStore(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		for _, at := range []time.Duration{0, time.Second, 39 * time.Second, 41 * time.Second, time.Hour} {
			t.Run(fmt.Sprintf("hangs=%t,after=%s", hangs, at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := repotest.Mem(&repotest.MemOptions{Now: time.Now})
					cut := &switched{Store: s, hangs: hangs}
					a, b := leaser(t, cut, 0), leaser(t, s, 0)
					var stopped, began time.Time
					done := make(chan error)
					go func() {
						done <- a.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
							time.Sleep(at)
							cut.down.Store(true)
							<-ctx.Done()
							stopped = time.Now()
							return fmt.Errorf("stopped: %w", ctx.Err())
						})
					}()
					time.Sleep(at + time.Second)
					for began.IsZero() {
						_ = b.WithLease(t.Context(), "backup", func(context.Context, *repo.Lease) error { began = time.Now(); return nil })
						time.Sleep(time.Second)
					}
					err := <-done
					require.ErrorIs(t, err, repo.ErrLeaseLost)
					if !hangs {
						require.ErrorIs(t, err, repotest.ErrInjected, "and why")
					}
					assert.Less(t, stopped, began.Add(-5*time.Second))
					assert.Less(t, began.Sub(stopped), time.Minute, "nobody waits longer than he has to")
				})
			})
		}
	}
}

// An outage that is shorter than the lease is none.
func TestLeaseSurvivesOutage(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cut := &switched{Store: repotest.Mem(nil), hangs: hangs}
			a, b := leaser(t, cut, 0), leaser(t, cut, 0)
			err := a.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
				time.Sleep(30 * time.Second)
				cut.down.Store(true)
				time.Sleep(time.Minute)
				cut.down.Store(false)
				if hangs { // what hangs, hangs
					return nil
				}
				time.Sleep(time.Hour)
				var held *repo.LeaseError
				require.ErrorAs(t, tryLease(ctx, b), &held)
				return ctx.Err()
			})
			require.NoError(t, err)
		})
	}
}

// A holder that was stopped, as a virtual machine can be, finds out when it goes on; at the latest when it asks.
func TestLeaseFencing(t *testing.T) {
	stamp := testTime
	s := repotest.Mem(&repotest.MemOptions{Now: func() time.Time { return stamp }})
	now := testTime
	open := func(off time.Duration) *repo.Repo {
		r, err := repo.Init(t.Context(), s, &repo.Options{Now: func() time.Time { return now.Add(off) }})
		require.NoError(t, err)
		return r
	}
	a, b := open(0), open(3*time.Minute) // for b's clock a's lease has expired
	err := a.WithLease(t.Context(), "backup", func(ctx context.Context, stale *repo.Lease) error {
		require.NoError(t, stale.Confirm(ctx))
		var held *repo.LeaseError
		require.ErrorAs(t, tryLease(ctx, b), &held, "for the store's it has not")
		stamp = stamp.Add(2*time.Minute + time.Second)
		err := b.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
			for range 10 { // which deletes what was before
				require.NoError(t, l.Confirm(ctx))
			}
			assert.Len(t, storedKeys(t, s, "leases/"), 1)
			for range 3 {
				require.ErrorIs(t, stale.Confirm(ctx), repo.ErrLeaseLost)
				require.NoError(t, l.Confirm(ctx), "the new holder is not disturbed")
			}
			assert.Greater(t, l.Fence(), stale.Fence())
			assert.Len(t, storedKeys(t, s, "leases/"), 1)
			return nil
		})
		require.NoError(t, err)
		require.ErrorIs(t, stale.Confirm(ctx), repo.ErrLeaseLost, "also when it has been given back")
		return errBoom
	})
	require.Equal(t, errBoom, err)
	keys := storedKeys(t, s, "leases/")
	require.Len(t, keys, 1)
	assert.Contains(t, string(storedBytes(t, s, keys[0])), `"released":true`)
	require.NoError(t, tryLease(t.Context(), a))
}

// A store that has tried twice to write what it is asked the time with answers that the name is taken, by itself.
func TestLeaseExpiredAfterALostAnswer(t *testing.T) {
	stamp := testTime
	s := repotest.Mem(&repotest.MemOptions{Now: func() time.Time { return stamp }})
	a, err := repo.Init(t.Context(), s, &repo.Options{Now: testNow})
	require.NoError(t, err)
	twice := repotest.Faulty(s, repotest.Fault{Op: repotest.OpCommit, Key: "probe/*", Do: repotest.FailAfter(fs.ErrExist)})
	b, err := repo.Open(t.Context(), twice, &repo.Options{Now: func() time.Time { return testTime.Add(3 * time.Minute) }})
	require.NoError(t, err)
	err = a.WithLease(t.Context(), "backup", func(ctx context.Context, _ *repo.Lease) error {
		stamp = stamp.Add(2*time.Minute + time.Second)
		require.NoError(t, tryLease(ctx, b))
		return errBoom
	})
	require.Equal(t, errBoom, err)
	require.Equal(t, 1, twice.Struck())
	require.Empty(t, storedKeys(t, s, "probe/"))
}

// The same at whatever moment of the stale holder's Confirm the other takes over, until it has been decided.
func TestLeaseFencingAtEveryCall(t *testing.T) {
	for n := 1; ; n++ {
		stamp := testTime
		s := repotest.Mem(&repotest.MemOptions{Now: func() time.Time { return stamp }})
		b, err := repo.Init(t.Context(), s, &repo.Options{Now: func() time.Time { return testTime.Add(3 * time.Minute) }})
		require.NoError(t, err)
		between := &interrupted{Store: s, at: -1}
		a, err := repo.Open(t.Context(), between, &repo.Options{Now: testNow})
		require.NoError(t, err)
		var confirmed, taken error
		err = a.WithLease(t.Context(), "backup", func(ctx context.Context, stale *repo.Lease) error {
			between.calls, between.at = 0, n
			between.do = func() {
				stamp = stamp.Add(3 * time.Minute)
				taken = b.WithLease(ctx, "backup", func(ctx context.Context, l *repo.Lease) error {
					between.inside = l
					return errors.Join(l.Confirm(ctx), l.Confirm(ctx))
				})
			}
			confirmed = stale.Confirm(ctx)
			between.at = -1
			return nil
		})
		require.NoError(t, err)
		if between.calls < n {
			require.Equal(t, 4, n)
			return
		}
		// One of the two has it, or neither; b has given it back by now.
		if taken == nil {
			require.ErrorIs(t, confirmed, repo.ErrLeaseLost, "call %d", n)
		} else {
			var held *repo.LeaseError
			require.True(t, errors.As(taken, &held) || errors.Is(taken, repo.ErrLeaseLost), "call %d: %v", n, taken)
			require.NoError(t, confirmed, "call %d", n)
		}
	}
}

// interrupted is a store that does something else before the at-th call.
type interrupted struct {
	repo.Store

	at, calls int
	do        func()
	inside    *repo.Lease
}

func (s *interrupted) step() {
	if s.at < 0 {
		return
	}
	if s.calls++; s.calls == s.at {
		s.do()
	}
}

func (s *interrupted) Create(ctx context.Context, key string) (repo.Writer, error) {
	s.step()
	w, err := s.Store.Create(ctx, key)
	return interruptedWriter{w, s}, err
}

type interruptedWriter struct {
	repo.Writer

	s *interrupted
}

func (w interruptedWriter) Commit() (repo.Info, error) {
	w.s.step()
	defer w.s.step()
	return w.Writer.Commit()
}

func TestLeaseClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repotest.Mem(nil)
		a, slow, fast := leaser(t, s, 0), leaser(t, s, -time.Hour), leaser(t, s, 100*time.Second)
		err := a.WithLease(t.Context(), "backup", func(ctx context.Context, _ *repo.Lease) error {
			var held *repo.LeaseError
			require.ErrorAs(t, tryLease(ctx, slow), &held)
			require.ErrorAs(t, tryLease(ctx, fast), &held)
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, tryLease(t.Context(), slow), "a released lease is free at any time")
	})

	// A clock that is set forward does not end a lease that nobody else wants.
	synctest.Test(t, func(t *testing.T) {
		var off atomic.Int64
		r, err := repo.Init(t.Context(), repotest.Mem(nil), &repo.Options{Now: func() time.Time { return time.Now().Add(time.Duration(off.Load())) }})
		require.NoError(t, err)
		for _, jump := range []time.Duration{time.Hour, -24 * time.Hour} {
			err = r.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
				time.Sleep(10 * time.Minute)
				off.Add(int64(jump))
				time.Sleep(10 * time.Minute)
				return errors.Join(ctx.Err(), l.Confirm(ctx))
			})
			require.NoError(t, err)
		}
	})
}

// The answer to a commit may be lost. Whoever tries to take a lease then does not have it, and neither does anybody
// have to wait for it.
func TestLeaseAmbiguousAcquire(t *testing.T) {
	for _, cause := range []error{nil, fs.ErrExist} {
		synctest.Test(t, func(t *testing.T) {
			s := repotest.Mem(nil)
			b := leaser(t, s, 0)
			a, err := repo.Open(t.Context(), repotest.Faulty(s, repotest.Fault{Op: repotest.OpCommit, Nth: 1, Do: repotest.FailAfter(cause)}), nil)
			require.NoError(t, err)
			err = tryLease(t.Context(), a)
			if cause == nil {
				requireOutage(t, err)
			} else {
				require.NoError(t, err, "a driver that tries twice finds its own")
			}
			require.NoError(t, tryLease(t.Context(), b))
			require.NoError(t, tryLease(t.Context(), a))
		})
	}
}

// However many want it, whatever befalls them: one at a time has it.
func TestLeaseRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const racers = 32
		s := repotest.Mem(nil)
		var inside, entered, lost atomic.Int32
		var wg sync.WaitGroup
		for i := range racers {
			cut := &switched{Store: s, hangs: i%2 == 0}
			r := leaser(t, cut, time.Duration(i%5)*time.Second-2*time.Second) // clocks are never quite right
			wg.Go(func() {
				for turn := 0; turn < 2; {
					err := r.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
						if n := inside.Add(1); n != 1 {
							t.Errorf("%d are inside", n)
						}
						defer inside.Add(-1)
						entered.Add(1)
						if i%8 == 0 {
							cut.down.Store(true)
							<-ctx.Done()
							return ctx.Err()
						}
						time.Sleep(time.Duration(i*turn+1) * time.Second)
						return l.Confirm(ctx)
					})
					cut.down.Store(false)
					var held *repo.LeaseError
					switch {
					case err == nil:
						turn++
					case errors.As(err, &held):
						time.Sleep(5*time.Second + time.Duration(i)*time.Millisecond)
					case errors.Is(err, repo.ErrLeaseLost) && i%8 == 0:
						lost.Add(1)
						turn++
					default:
						t.Errorf("racer %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 2*racers, entered.Load())
		assert.EqualValues(t, 2*racers/8, lost.Load())
	})
}

// The same without an artificial clock, for the race detector, and on a directory.
func TestLeaseRaceInEarnest(t *testing.T) {
	dir := openDir(t, t.TempDir(), nil)
	for name, s := range map[string]repo.Store{"mem": repotest.Mem(nil), "dir": dir} {
		t.Run(name, func(t *testing.T) {
			var inside atomic.Int32
			var wg sync.WaitGroup
			for range 32 {
				r := leaser(t, s, 0)
				wg.Go(func() {
					for {
						err := r.WithLease(t.Context(), "backup", func(ctx context.Context, l *repo.Lease) error {
							if n := inside.Add(1); n != 1 {
								t.Errorf("%d are inside", n)
							}
							defer inside.Add(-1)
							runtime.Gosched()
							return l.Confirm(ctx)
						})
						var held *repo.LeaseError
						if !errors.As(err, &held) {
							assert.NoError(t, err)
							return
						}
						runtime.Gosched()
					}
				})
			}
			wg.Wait()
		})
	}
}

// hoursOn is a store some hours on: what it is asked to create to know the time is that much later than what is there.
type hoursOn struct{ repo.Store }

func (s hoursOn) Stat(ctx context.Context, key string) (repo.Info, error) {
	info, err := s.Store.Stat(ctx, key)
	if strings.HasPrefix(key, "probe/") {
		info.ModTime = info.ModTime.Add(24 * time.Hour)
	}
	return info, err
}
