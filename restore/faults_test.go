package restore_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// recover opens a repository, plans and runs, as a program would.
func (f *fake) recover(ctx context.Context, s repo.Store, dir string) error {
	r, err := repo.Open(ctx, s, &repo.Options{Cipher: f.cipher, Now: f.c.Now})
	if err != nil {
		return err
	}
	p, err := restore.Prepare(ctx, r, restore.Latest(), nil)
	if err != nil {
		return err
	}
	_, err = p.Run(ctx, r, dir, &restore.Options{Jobs: 1})
	return err
}

// requireGoesOn demands that a restore that failed has left nothing that would boot, and that the next goes on with it. It
// clears the directory for another.
func (f *fake) requireGoesOn(t *testing.T, dir string) {
	t.Helper()
	requireNoCluster(t, dir)
	require.NoError(t, f.recover(t.Context(), f.store, dir))
	require.NoError(t, f.c.Compare(dir))
	require.NoError(t, os.RemoveAll(dir))
}

// Whatever call on the store fails, the error says so, is no answer about what exists and no corruption, nothing that
// would boot is left, and the next restore into the same directory succeeds.
func TestRestoreWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	f := newFake(t, true, nil)
	f.c.Promote() // so that there is a history to be read
	f.c.Switch(1)
	require.NoError(t, f.archive(t))
	for name, effect := range map[string]repotest.Effect{"fails": repotest.Fail(nil), "answer is lost": repotest.FailAfter(nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			for n := 1; ; n++ {
				s := repotest.Faulty(f.store, repotest.Fault{Nth: n, Do: effect})
				err := f.recover(t.Context(), s, dir)
				if s.Struck() == 0 {
					require.NoError(t, err)
					require.Greater(t, n, 20)
					break
				}
				struck := s.Calls()[n-1]
				if err == nil && isUse(struck.Key) {
					require.NoError(t, os.RemoveAll(dir))
					continue
				}
				if err == nil {
					if struck.Key != "systems/2" { // which is missing by itself
						require.Equal(t, repotest.OpRead, struck.Op, "the end of an object, which is no answer")
					}
					require.NotEqual(t, "fails", name)
					require.NoError(t, os.RemoveAll(dir))
					continue
				}
				requireNoAnswer(t, err)
				require.ErrorIs(t, err, repotest.ErrInjected, "%v", struck)
				require.False(t, is[*repo.CorruptError](err), "%v", err)
				require.False(t, is[*restore.UnreachableError](err), "%v", err)
				f.requireGoesOn(t, dir)
			}
			require.NoError(t, f.c.Compare(dir))
		})
	}
}

// A body that breaks off is no truncated object.
func TestRestoreWhenABodyBreaksOff(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	for _, key := range keys(t, f.store, "") {
		if isLease(key) {
			continue
		}
		s := repotest.Faulty(f.store, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: repotest.Cut(50)})
		dir := newDir(t)
		err := f.recover(t.Context(), s, dir)
		requireNoAnswer(t, err)
		require.ErrorContains(t, err, key)
		require.False(t, is[*repo.CorruptError](err), "%v", err)
		requireNoCluster(t, dir)
	}
}

// isUse tells whether a call tells others, or nobody, that the backup is in use: the restore goes on without.
func isUse(key string) bool { return strings.HasPrefix(key, "leases/"+backup.UseLease) }

func isLease(key string) bool { return filepath.Dir(key) == "leases/backup" }

// A caller that gives up between any two calls gets just that answer.
func TestRestoreIsCancelled(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	dir := newDir(t)
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		err := f.recover(ctx, repo.Observe(f.store, func(repo.Op) {
			if calls.Add(1) == int64(n) {
				cancel()
			}
		}), dir)
		cancel()
		if err == nil {
			require.Greater(t, n, 5)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		requireNoAnswer(t, err)
		f.requireGoesOn(t, dir)
	}
	require.NoError(t, f.c.Compare(dir))
}

// A store that does not answer does not keep a caller who gives up.
func TestRestoreIsCancelledWhileTheStoreStalls(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	dir := newDir(t)
	for n, struck := 1, true; struck; n++ {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s := repotest.Faulty(f.store, repotest.Fault{Nth: n, Do: repotest.Stall()})
			err := f.recover(ctx, s, dir)
			if struck = s.Struck() > 0; !struck {
				require.NoError(t, err)
				return
			}
			if err == nil && isUse(s.Calls()[n-1].Key) {
				require.NoError(t, os.RemoveAll(dir))
				return
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			requireNoAnswer(t, err)
			f.requireGoesOn(t, dir)
		})
	}
	require.NoError(t, f.c.Compare(dir))
}

// A disk that is full, or any other failure to write, leaves nothing that would boot.
func TestRestoreThatCannotWrite(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	base := t.TempDir()
	dir := filepath.Join(base, "data")
	broken := false
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{
		Tablespaces: map[string]string{"fast": filepath.Join(base, "fast")},
		Progress: func(p restore.Progress) {
			if p.Phase == "sync" && !broken {
				broken = true
				require.NoError(t, os.RemoveAll(filepath.Join(dir, "global")))
			}
		},
	})
	require.Error(t, err)
	require.True(t, broken)
	requireNoCluster(t, dir)
	require.FileExists(t, filepath.Join(dir, "pgcairn.restore"))
	require.NotErrorIs(t, err, context.Canceled)
}
