package backup_test

import (
	"context"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

// optional calls are those whose failure leaves nothing worse than an object that is not needed any more.
func optional(c repotest.Call) bool {
	return c.Op == repotest.OpDelete || c.Op == repotest.OpList && c.Key == "packs/" // without which nothing is taken over
}

// Whatever call on the store fails, the error says so and never that something does not exist, and what is listed is
// whole. A manifest that was committed although its answer was lost is a backup.
func TestTakeWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name   string
		effect repotest.Effect
		sent   bool
	}{
		{"fails", repotest.Fail(nil), false},
		{"fails", repotest.Fail(nil), true},
		{"answer is lost", repotest.FailAfter(nil), false},
		{"answer is lost", repotest.FailAfter(nil), true},
	} {
		name, effect := way.name, way.effect
		t.Run(fmt.Sprint(name, " ", way.sent), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				cipher, _ := newCipher(t)
				mem := repotest.Mem(nil)
				newRepo(t, mem, cipher)
				s := repotest.Faulty(mem, repotest.Fault{Nth: n, Do: effect})
				r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: cipher, Now: clock()})
				if err == nil {
					c := backuptest.New(nil)
					var source backup.Source = c
					if way.sent {
						source = newStreamed(c)
					}
					_, err = backup.Take(t.Context(), r, source, &backup.Options{Jobs: 1})
					require.Zero(t, c.Running())
				}
				if s.Struck() == 0 {
					require.NoError(t, err)
					require.Greater(t, n, 30)
					break
				}
				struck := s.Calls()[n-1]
				sound, oerr := repo.Open(t.Context(), mem, &repo.Options{Cipher: cipher, Now: clock()})
				require.NoError(t, oerr)
				all := requireSound(t, sound)
				listed := len(keys(t, mem, "backups/"))
				_, oerr = backup.Take(t.Context(), sound, backuptest.New(nil), nil)
				require.NoError(t, oerr, "the next backup succeeds without help after %v", struck)
				if err == nil {
					// The lease is released all the same, and what is left over is deleted later.
					require.True(t, optional(struck) || isLease(struck.Key) || noAnswer(name, struck), "%v", struck)
					require.Len(t, all, 1)
					continue
				}
				requireNoAnswer(t, err)
				require.ErrorIs(t, err, repotest.ErrInjected, "%v", struck)
				committed := name != "fails" && struck.Op == repotest.OpCommit && listed == 1
				require.Equal(t, committed, len(all) == 1, "%v", struck)
			}
		})
	}
}

// A store that repeats a request whose answer was lost says that the object exists, though it has just written it.
func TestTakeWhenTheStoreRepeats(t *testing.T) {
	t.Parallel()
	_, write := newCipher(t)
	for name, cipher := range map[string]repo.Cipher{"plain": nil, "encrypted": write} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				mem := repotest.Mem(nil)
				newRepo(t, mem, cipher)
				s := repotest.Faulty(mem, repotest.Fault{Op: repotest.OpCommit, Nth: n, Do: repotest.FailAfter(fs.ErrExist)})
				r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: cipher, Now: clock()})
				require.NoError(t, err)
				_, err = backup.Take(t.Context(), r, backuptest.New(nil), &backup.Options{Jobs: 1})
				require.NoError(t, err, "%d", n)
				require.Len(t, keys(t, mem, "backups/"), 1)
				if s.Struck() == 0 {
					require.Greater(t, n, 5)
					break
				}
			}
		})
	}
}

// noAnswer tells that a call may have had no answer to be lost: it found no object, or the end of one.
func noAnswer(fault string, c repotest.Call) bool {
	return fault != "fails" && (c.Op == repotest.OpRead || c.Op == repotest.OpOpen || c.Op == repotest.OpStat)
}

func isLease(key string) bool { return len(key) > 7 && key[:7] == "leases/" }

// A caller that gives up between any two calls gets just that answer.
func TestTakeIsCancelled(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		mem := repotest.Mem(nil)
		newRepo(t, mem, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		s := repo.Observe(mem, func(repo.Op) {
			if calls.Add(1) == int64(n) {
				cancel()
			}
		})
		r, err := repo.Open(ctx, s, &repo.Options{Now: clock()})
		if err == nil {
			c := backuptest.New(nil)
			_, err = backup.Take(ctx, r, c, &backup.Options{Jobs: 1})
			require.Zero(t, c.Running())
		}
		cancel()
		sound, oerr := repo.Open(t.Context(), mem, &repo.Options{Now: clock()})
		require.NoError(t, oerr)
		all := requireSound(t, sound)
		if err == nil {
			require.Greater(t, n, 10)
			require.Len(t, all, 1)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, all)
		// No lease is left behind.
		_, err = backup.Take(t.Context(), sound, backuptest.New(nil), nil)
		require.NoError(t, err, "cancelled after call %d", n)
	}
}

// A store that does not answer does not keep a caller who gives up.
func TestTakeIsCancelledWhileTheStoreStalls(t *testing.T) {
	t.Parallel()
	struck := true
	for n := 1; struck; n++ {
		synctest.Test(t, func(t *testing.T) { struck = stall(t, n) })
	}
}

// stall gives up a backup when its n-th call on the store stalls, and tells whether there was one.
func stall(t *testing.T, n int) bool {
	mem := repotest.Mem(nil)
	newRepo(t, mem, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // before the lease is renewed
	defer cancel()
	s := repotest.Faulty(mem, repotest.Fault{Nth: n, Do: repotest.Stall()})
	begun := time.Now()
	r, err := repo.Open(ctx, s, &repo.Options{Now: clock()})
	if err == nil {
		_, err = backup.Take(ctx, r, backuptest.New(nil), &backup.Options{Jobs: 1})
	}
	require.Less(t, time.Since(begun), time.Minute)
	sound, oerr := repo.Open(t.Context(), mem, &repo.Options{Now: clock()})
	require.NoError(t, oerr)
	all := requireSound(t, sound)
	if s.Struck() == 0 {
		require.NoError(t, err)
		return false
	}
	if err == nil {
		call := s.Calls()[n-1]
		require.True(t, optional(call) || isLease(call.Key), "%v", call)
		return true
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	requireNoAnswer(t, err)
	require.Empty(t, all)
	return true
}

func TestListAndLoadWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		var cipher repo.Cipher
		if encrypted {
			cipher, _ = newCipher(t)
		}
		mem := repotest.Mem(nil)
		m, err := backup.Take(t.Context(), newRepo(t, mem, cipher), backuptest.New(nil), nil)
		require.NoError(t, err)
		for name, effect := range map[string]repotest.Effect{"fails": repotest.Fail(nil), "answer is lost": repotest.FailAfter(nil)} {
			for n := 1; ; n++ {
				s := repotest.Faulty(mem, repotest.Fault{Nth: n, Do: effect})
				r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: cipher})
				if err == nil {
					_, err = backup.List(t.Context(), r)
				}
				if err == nil {
					_, err = backup.Load(t.Context(), r, m.ID)
				}
				if s.Struck() == 0 {
					require.NoError(t, err)
					require.Greater(t, n, 8)
					break
				}
				if struck := s.Calls()[n-1]; err == nil && noAnswer(name, struck) {
					continue
				}
				require.ErrorIs(t, err, repotest.ErrInjected, "%s at %v", name, s.Calls()[n-1])
				requireNoAnswer(t, err)
				var corrupt *repo.CorruptError
				require.NotErrorAs(t, err, &corrupt, "an outage is no corruption: %v", err)
			}
		}
	}
}
