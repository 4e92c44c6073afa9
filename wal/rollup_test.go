package wal_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// pushing is an archive on a host that remembers in state and, where it encrypts, cannot read.
func pushing(t *testing.T, store repo.Store, kind, state string) *wal.Archive {
	t.Helper()
	o := &repo.Options{StateDir: state}
	if kind != "plain" {
		o.Cipher = cipher(t, "")
	}
	return openArchive(t, store, o)
}

// pushNumbers archives segments by number, from one to before another.
func pushNumbers(t *testing.T, a *wal.Archive, from, to uint64) {
	t.Helper()
	for n := from; n < to; n++ {
		require.NoError(t, push(t, a, segment(n).Name(), content(segment(n))))
	}
}

func segments(from, to uint64) []wal.Segment {
	var all []wal.Segment
	for n := from; n < to; n++ {
		all = append(all, segment(n))
	}
	return all
}

// requireIndexes demands that the indexes are those of the segments.
func requireIndexes(t *testing.T, a *wal.Archive, from, to uint64) {
	t.Helper()
	for _, changes := range []bool{false, true} {
		got, err := a.Indexes(t.Context(), segments(from, to), changes)
		require.NoError(t, err)
		require.Len(t, got, int(to-from))
		for i, s := range segments(from, to) {
			want := indexOf(t, s, content(s))
			if !changes {
				require.Equal(t, want.Segment, got[i].Segment)
				require.Equal(t, want.Commits, got[i].Commits)
				continue
			}
			b1, err := want.MarshalBinary()
			require.NoError(t, err)
			b2, err := got[i].MarshalBinary()
			require.NoError(t, err)
			require.Equal(t, b1, b2)
		}
	}
}

// The indexes of a whole group, and of one that the WAL has gone well past, are read by one request.
func TestRollUp(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		store, state := repotest.Mem(nil), filepath.Join(t.TempDir(), "state")
		a := pushing(t, store, kind, state)
		pushNumbers(t, a, 246, 256) // a part of a group, in order
		require.Empty(t, objects(t, store, "indexes/"))
		for n := uint64(511); n >= 256; n-- { // a whole one, the other way round
			require.NotContains(t, objects(t, store, "indexes/"), wal.RollUpKey(cluster, segment(256)))
			pushNumbers(t, a, n, n+1)
			require.Contains(t, objects(t, store, "indexes/"), wal.RollUpKey(cluster, segment(246)))
		}
		require.Contains(t, objects(t, store, "indexes/"), wal.RollUpKey(cluster, segment(256)))
		marks, err := filepath.Glob(filepath.Join(state, "*", "indexes", "*", "*", "rolled"))
		require.NoError(t, err)
		require.Len(t, marks, 2)
		pushNumbers(t, a, 512, 520)
		pushNumbers(t, a, 300, 303) // once more, by whom nobody told

		var mu sync.Mutex
		requests := map[string]int{}
		reader := openArchive(t, repo.Observe(store, func(op repo.Op) {
			mu.Lock()
			defer mu.Unlock()
			requests[op.Name]++
		}), options(t, kind))
		_, err = reader.System(t.Context())
		require.NoError(t, err)
		clear(requests)
		_, err = reader.Indexes(t.Context(), segments(246, 512), true)
		require.NoError(t, err)
		require.Zero(t, requests["stat"])
		require.LessOrEqual(t, requests["open"], 3) // and a key
		requireIndexes(t, reader, 246, 520)
	}
}

// What is wrong with a roll-up costs requests, and no answer.
func TestRollUpThatIsWrong(t *testing.T) {
	t.Parallel()
	store, state := repotest.Mem(nil), filepath.Join(t.TempDir(), "state")
	a := pushing(t, store, "plain", state)
	pushNumbers(t, a, 1, 12)
	kept, err := filepath.Glob(filepath.Join(state, "*", "indexes", "*", "*", "*"))
	require.NoError(t, err)
	require.Len(t, kept, 11)
	for i, damage := range []func(path string) error{
		func(path string) error { return os.WriteFile(path, []byte("torn"), 0o600) },
		func(path string) error { // another's
			b, err := os.ReadFile(kept[5])
			return errors.Join(err, os.WriteFile(path, b, 0o600))
		},
		os.Remove,
	} {
		require.NoError(t, damage(kept[i+1]))
	}
	pushNumbers(t, a, 256+64, 256+65)
	key := wal.RollUpKey(cluster, segment(1))
	require.Equal(t, []string{key}, objects(t, store, "indexes/"))
	requireIndexes(t, openArchive(t, store, nil), 1, 12)

	good := readObject(t, store, key)
	rolled := func(segments ...wal.Segment) []byte {
		var all []*wal.Index
		for _, s := range segments {
			all = append(all, indexOf(t, s, content(s)))
		}
		b, err := wal.EncodeRollUp(all...)
		require.NoError(t, err)
		return b
	}
	alone := rolled(segment(1))
	for what, write := range map[string]func(store repo.Store, r *repo.Repo){
		"flipped":         func(s repo.Store, _ *repo.Repo) { writeObject(t, s, key, flip(good, len(good)/2)) },
		"cut":             func(s repo.Store, _ *repo.Repo) { writeObject(t, s, key, good[:len(good)-40]) },
		"empty":           func(_ repo.Store, r *repo.Repo) { putWithNotes(t, r, key, nil, nil, nil) },
		"of another":      func(_ repo.Store, r *repo.Repo) { putWithNotes(t, r, key, rolled(segment(300)), nil, nil) },
		"twice":           func(_ repo.Store, r *repo.Repo) { putWithNotes(t, r, key, rolled(segment(1), segment(1)), nil, nil) },
		"without changes": func(_ repo.Store, r *repo.Repo) { putWithNotes(t, r, key, alone[:len(alone)-1], nil, nil) },
		"of a later version": func(_ repo.Store, r *repo.Repo) {
			putWithNotes(t, r, key, []byte{2, 0}, nil, nil)
		},
	} {
		damaged := copyStore(t, store, func(k string) string {
			if k == key {
				return ""
			}
			return k
		})
		r, err := repo.Open(t.Context(), damaged, nil)
		require.NoError(t, err)
		write(damaged, r)
		var log bytes.Buffer
		a, err := wal.NewArchive(r, &wal.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		requireIndexes(t, a, 1, 12)
		require.Contains(t, log.String(), key, what)
	}
}

// A roll-up that cannot be written fails no push, and is written by a later one.
func TestRollUpIsTriedAgain(t *testing.T) {
	t.Parallel()
	store, state := repotest.Mem(nil), t.TempDir()
	full := repotest.Faulty(store, repotest.Fault{Op: repotest.OpCreate, Key: "indexes/*/*", Do: repotest.Fail(errors.New("full"))})
	a := pushing(t, full, "plain", state)
	pushNumbers(t, a, 1, 20)
	pushNumbers(t, a, 256+64, 256+66)
	require.Empty(t, objects(t, store, "indexes/"))
	require.Equal(t, 2, full.Struck())
	a = pushing(t, store, "plain", state)
	pushNumbers(t, a, 256+66, 256+67)
	require.Equal(t, []string{wal.RollUpKey(cluster, segment(1))}, objects(t, store, "indexes/"))
}

// What is in the state directory stays small, wherever the WAL goes.
func TestRollUpOfManyGroups(t *testing.T) {
	t.Parallel()
	store, state := repotest.Mem(nil), t.TempDir()
	a := pushing(t, store, "plain", state)
	for n := uint64(20); n > 0; n-- { // as after recovery to an earlier time, and again
		pushNumbers(t, a, 256*n, 256*n+8)
	}
	kept, err := filepath.Glob(filepath.Join(state, "*", "indexes", "*", "*"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(kept), 16)
	require.GreaterOrEqual(t, len(objects(t, store, "indexes/")), 4)
}

// Times tells when there were commits, of every range.
func TestTimes(t *testing.T) {
	t.Parallel()
	a := openArchive(t, repotest.Mem(nil), nil)
	s, front := pages(t, "pg18")
	whole := append(bytes.Clone(front), make([]byte, int(s.Size)-len(front))...)
	ix := indexOf(t, s, whole)
	require.NotZero(t, ix.Commits.Count)
	require.NoError(t, push(t, a, s.Name(), whole))
	c, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.NoError(t, a.Times(t.Context(), &c))
	r := c.Timelines[0].Ranges[0]
	require.Equal(t, []time.Time{ix.Commits.First, ix.Commits.Last}, []time.Time{r.FirstCommit, r.LastCommit})
}
