package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// reads counts how often each part of a file was read.
type reads struct {
	mu    sync.Mutex
	count map[string]int
	begun int
}

// large is a cluster with a relation of some megabytes, whose reads are counted.
func large(r *reads, logged bool) *backuptest.Cluster {
	r.count = map[string]int{}
	c := backuptest.New(&backuptest.Options{Logged: logged, Hook: func(call backuptest.Call) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case call.Op == backuptest.OpBegin:
			r.begun++
		case call.Op == backuptest.OpRead && !strings.HasPrefix(call.Path, "pg_wal/"):
			r.count[fmt.Sprint(call.Path, "@", call.Off)]++
		}
		return nil
	}})
	for i := range 3 {
		c.Write(fmt.Sprintf("base/1/%d", 20000+i), backuptest.Pages(0, 500+i*137, 1<<24, "text"))
	}
	return c
}

// TestTakeAllReadsOnce feeds three repositories, each with keys of its own, from one reading of the cluster.
func TestTakeAllReadsOnce(t *testing.T) {
	for name, logged := range map[string]bool{"pages that the WAL names": true, "all pages are compared": false} {
		t.Run(name, func(t *testing.T) { readsOnce(t, logged) })
	}
}

func readsOnce(t *testing.T, logged bool) {
	t.Helper()
	var seen reads
	c := large(&seen, logged)
	var repos []*repo.Repo
	for i := range 3 {
		var cipher repo.Cipher
		if i > 0 {
			cipher, _ = newCipher(t)
		}
		repos = append(repos, newRepo(t, nil, cipher))
	}
	taken, err := backup.TakeAll(t.Context(), repos, c, &backup.AllOptions{Options: backup.Options{Jobs: 1}})
	require.NoError(t, err)
	require.Equal(t, 1, seen.begun)
	require.Zero(t, c.Running())
	require.Greater(t, len(seen.count), 10)
	for what, n := range seen.count {
		require.Equal(t, 1, n, what)
	}
	for i, r := range repos {
		require.NoError(t, taken[i].Err)
		require.Equal(t, taken[i].Manifest.StopLSN, taken[0].Manifest.StopLSN)
		require.Len(t, requireSound(t, r), 1)
		require.NoError(t, c.Compare(run(t, r, nil)))
	}

	// Of a difference, what they all lack is read once as well. It is in several relations, in pages apart and in runs.
	for i := range 3 {
		file := fmt.Sprintf("base/1/%d", 20000+i)
		content, err := c.Read(file)
		require.NoError(t, err)
		for _, block := range []uint32{3, 4, 5, 90, 200, 499} {
			copy(content[block*8192:], backuptest.Pages(block, 1, uint64(c.LSN()), "changed"))
		}
		c.Write(file, content)
	}
	c.Switch(1)
	for _, r := range repos {
		a, err := wal.NewArchive(r, nil)
		require.NoError(t, err)
		require.NoError(t, c.Archive(t.Context(), a))
	}
	clear(seen.count)
	taken, err = backup.TakeAll(t.Context(), repos, c, &backup.AllOptions{Options: backup.Options{Type: backup.Incremental, Jobs: 1}})
	require.NoError(t, err)
	require.Greater(t, len(seen.count), 10)
	for what, n := range seen.count {
		require.Equal(t, 1, n, what)
	}
	for i, r := range repos {
		require.Equal(t, backup.Incremental, taken[i].Manifest.Type)
		require.NoError(t, c.Compare(run(t, r, nil)))
	}

	// Each has its own parent: a difference is what each lacks.
	_, err = backup.Take(t.Context(), repos[1], c, nil)
	require.NoError(t, err)
	c.Write("base/1/20001", backuptest.Pages(0, 700, 1<<24, "other"))
	taken, err = backup.TakeAll(t.Context(), repos, c, &backup.AllOptions{Options: backup.Options{Type: backup.Incremental}})
	require.NoError(t, err)
	for i, r := range repos {
		require.Equal(t, backup.Incremental, taken[i].Manifest.Type)
		all := requireSound(t, r)
		require.Equal(t, all[len(all)-2].ID, taken[i].Manifest.Parent)
		require.NoError(t, c.Compare(run(t, r, nil)))
	}
}

// A file that has vanished by the time that it is opened is in no backup, whoever was the first to find out.
func TestTakeAllOfAFileThatVanishes(t *testing.T) {
	const gone = "base/1/20001"
	c := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpOpen && call.Path == gone {
			return &fs.PathError{Op: "open", Path: gone, Err: fs.ErrNotExist}
		}
		return nil
	}})
	c.Write(gone, backuptest.Pages(0, 3, 1<<24, "text"))
	repos := []*repo.Repo{newRepo(t, nil, nil), newRepo(t, nil, nil)}
	taken, err := backup.TakeAll(t.Context(), repos, c, nil)
	require.NoError(t, err)
	for _, b := range taken {
		require.False(t, slices.ContainsFunc(b.Manifest.FileList, func(f backup.File) bool { return f.Path == gone }))
	}
}

// TestTakeAllAtEveryOutage fails each call on one of two stores. The other has its backup in any case.
func TestTakeAllAtEveryOutage(t *testing.T) {
	for n := 1; ; n++ {
		mem := repotest.Mem(nil)
		newRepo(t, mem, nil)
		faulty := repotest.Faulty(mem, repotest.Fault{Nth: n})
		broken, err := repo.Open(t.Context(), faulty, &repo.Options{Now: clock()})
		if err != nil {
			continue
		}
		sound := newRepo(t, nil, nil)
		c := backuptest.New(nil)
		taken, err := backup.TakeAll(t.Context(), []*repo.Repo{broken, sound}, c, &backup.AllOptions{Enough: 1})
		require.NoError(t, err)
		require.NoError(t, taken[1].Err)
		require.Zero(t, c.Running())
		require.Len(t, requireSound(t, sound), 1)
		require.NoError(t, c.Compare(run(t, sound, nil)))
		if faulty.Struck() == 0 {
			require.NoError(t, taken[0].Err)
			require.Greater(t, n, 15)
			return
		}
		if taken[0].Err == nil {
			again, err := repo.Open(t.Context(), mem, &repo.Options{Now: clock()})
			require.NoError(t, err)
			require.Len(t, requireSound(t, again), 1)
		}
	}
}

// One that stalls holds up the others for as long as Patience says, and no longer: whenever it does.
func TestTakeAllDropsWhoHoldsUpTheOthers(t *testing.T) {
	for _, fault := range []repotest.Fault{
		{Op: repotest.OpCreate, Key: "leases/*/*"},
		{Op: repotest.OpCreate, Key: "packs/*/*"},
		{Op: repotest.OpWrite, Key: "packs/*/*"},
		{Op: repotest.OpCommit, Key: "packs/*/*"},
	} {
		t.Run(fmt.Sprint(fault.Op, fault.Key), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fault.Do = repotest.Stall()
				var seen reads
				c := large(&seen, false)
				mem := repotest.Mem(nil)
				newRepo(t, mem, nil)
				faulty := repotest.Faulty(mem, fault)
				stalls, err := repo.Open(t.Context(), faulty, &repo.Options{Now: time.Now})
				require.NoError(t, err)
				sound := newRepo(t, nil, nil)
				begun := time.Now()
				taken, err := backup.TakeAll(t.Context(), []*repo.Repo{stalls, sound}, c, &backup.AllOptions{Enough: 1, Patience: time.Minute})
				require.NoError(t, err)
				require.NotZero(t, faulty.Struck())
				require.NoError(t, taken[1].Err)
				require.Error(t, taken[0].Err)
				require.LessOrEqual(t, time.Since(begun), 3*time.Minute)
				require.NoError(t, c.Compare(run(t, sound, nil)))
			})
		})
	}
}

func TestTakeAllFails(t *testing.T) {
	down := errors.New("down")
	c := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpStop {
			return down
		}
		return nil
	}})
	taken, err := backup.TakeAll(t.Context(), []*repo.Repo{newRepo(t, nil, nil), newRepo(t, nil, nil)}, c, nil)
	require.ErrorIs(t, err, down)
	require.ErrorIs(t, taken[0].Err, down)
	require.ErrorIs(t, taken[1].Err, down)
	require.Zero(t, c.Running())
	for _, enough := range []int{-1, 2} {
		_, err = backup.TakeAll(t.Context(), []*repo.Repo{newRepo(t, nil, nil)}, c, &backup.AllOptions{Enough: enough})
		require.Error(t, err)
	}
	_, err = backup.TakeAll(t.Context(), nil, c, nil)
	require.Error(t, err)
	_, err = backup.TakeAll(t.Context(), []*repo.Repo{newRepo(t, nil, nil), newRepo(t, nil, nil)}, newStreamed(backuptest.New(nil)), nil)
	require.ErrorContains(t, err, "one repository only")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = backup.TakeAll(ctx, []*repo.Repo{newRepo(t, nil, nil)}, backuptest.New(nil), nil)
	require.ErrorIs(t, err, context.Canceled)
}
