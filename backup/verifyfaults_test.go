package backup_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

var faultStep = flag.Int("fault-step", 29, "the tests of Verify on faults strike each so many-th call")

// Whatever call on the store goes wrong, a sound repository has no problem: Verify ends in an error, or well, and the next
// run is well.
func TestVerifyWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	for name, effect := range map[string]repotest.Effect{"fails": repotest.Fail(nil), "answer is lost": repotest.FailAfter(nil)} {
		for _, encrypted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				g := newMuseum(t, encrypted)
				for n := 1; ; n += *faultStep {
					s := repotest.Faulty(g.store, repotest.Fault{Nth: n, Do: effect})
					done := requireNoProblem(t, g, s)
					if s.Struck() == 0 {
						require.True(t, done)
						require.Greater(t, n, 100)
						break
					}
					if n%3 == 1 {
						requireConverges(t, g)
					}
					forget(t, g)
				}
			})
		}
	}
}

// A body that breaks off is an outage, and never damage.
func TestVerifyWhenABodyBreaksOff(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		g := newMuseum(t, encrypted)
		for n := 1; ; n += *faultStep {
			s := repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpOpen, Nth: n, Do: repotest.Cut(int64(n * 7 % 60))})
			done := requireNoProblem(t, g, s)
			if s.Struck() == 0 {
				require.True(t, done)
				break
			}
			if n%3 == 1 {
				requireConverges(t, g)
			}
			forget(t, g)
		}
	}
}

// A store that does not answer is left when the caller gives up.
func TestVerifyWhenTheStoreStalls(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	for n := 1; ; n += 5 * *faultStep {
		struck := true
		synctest.Test(t, func(t *testing.T) {
			s := repotest.Faulty(g.store, repotest.Fault{Nth: n, Do: repotest.Stall()})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := repo.Open(ctx, s, &repo.Options{Now: g.now})
			if err == nil {
				_, err = backup.Verify(ctx, r, &backup.VerifyOptions{ReadData: true, Jobs: 1})
			}
			struck = s.Struck() > 0
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		})
		if !struck {
			break
		}
		requireConverges(t, g)
		forget(t, g)
	}
}

// requireNoProblem verifies by a store with a fault, and tells whether it came to an end.
func requireNoProblem(t *testing.T, g *museum, s *repotest.FaultStore) bool {
	t.Helper()
	r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: g.cipher, Now: g.now})
	if err != nil {
		requireNoAnswer(t, err)
		return false
	}
	report, err := backup.Verify(t.Context(), r, &backup.VerifyOptions{ReadData: true, Jobs: 1})
	require.Empty(t, report.Problems, "%v", report)
	if err != nil {
		requireNoAnswer(t, err)
		require.True(t, errors.Is(err, repotest.ErrInjected) || errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
	}
	return err == nil
}

func requireConverges(t *testing.T, g *museum) {
	t.Helper()
	report := verify(t, g.open(t, g.store), all)
	require.True(t, report.OK(), report)
	require.Zero(t, verify(t, g.open(t, g.store), all).ReadObjects)
}

// forget has the next run read all.
func forget(t *testing.T, g *museum) {
	t.Helper()
	for _, key := range keys(t, g.store, "checked/") {
		require.NoError(t, g.store.Delete(t.Context(), key))
	}
}

// unhurried is a store that answers also those who have given up, and calls f after each n-th answer.
type unhurried struct {
	repo.Store

	calls atomic.Int64
	f     func(n int)
}

func (s *unhurried) answered() { s.f(int(s.calls.Add(1))) }

func (s *unhurried) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	defer s.answered()
	return s.Store.Open(context.WithoutCancel(ctx), key, off, n)
}

func (s *unhurried) Stat(ctx context.Context, key string) (repo.Info, error) {
	defer s.answered()
	return s.Store.Stat(context.WithoutCancel(ctx), key)
}

func (s *unhurried) Create(ctx context.Context, key string) (repo.Writer, error) {
	return s.Store.Create(context.WithoutCancel(ctx), key)
}

func (s *unhurried) List(ctx context.Context, prefix string) iter.Seq2[repo.Info, error] {
	defer s.answered()
	return s.Store.List(context.WithoutCancel(ctx), prefix)
}

// A run that is given up, whenever that is, has not found that all is well.
func TestVerifyGivenUp(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	last := g.all[len(g.all)-1]
	require.NoError(t, g.store.Delete(t.Context(), last.PackList[0].Key))
	for name, readData := range map[string]bool{"a glance": false, "content": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n, ended := 1, false; !ended; n += 3 {
				ctx, cancel := context.WithCancel(t.Context())
				s := &unhurried{Store: g.store, f: func(i int) {
					if i == n {
						cancel()
					}
				}}
				r, err := repo.Open(t.Context(), s, &repo.Options{Now: g.now})
				require.NoError(t, err)
				report, err := backup.Verify(ctx, r, &backup.VerifyOptions{ReadData: readData, Jobs: 1, NoReceipt: true})
				if err == nil {
					require.False(t, report.OK(), "given up after %d answers\n%s", n, report)
				} else {
					require.ErrorIs(t, err, context.Canceled)
				}
				ended = ctx.Err() == nil
				cancel()
			}
		})
	}
}
