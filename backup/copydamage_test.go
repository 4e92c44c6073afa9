package backup_test

import (
	"context"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// Of each object that is damaged, or missing, the copy tells, and which backups that costs; all else is copied.
func TestCopyDamaged(t *testing.T) {
	t.Parallel()
	mem := repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	m, err := backup.Load(t.Context(), w.repo, w.backups[1])
	require.NoError(t, err)
	for _, key := range copiedKeys(t, w.repo) {
		if key == "systems/1" {
			continue // without which nothing is known of the rest: see below
		}
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			s := repotest.Faulty(mem, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: repotest.Flip(70)})
			from, err := repo.Open(t.Context(), s, &repo.Options{Now: clock()})
			require.NoError(t, err)
			to := newRepo(t, nil, nil)
			result, err := backup.Copy(t.Context(), from, to, nil)
			var damaged *backup.CopyError
			require.ErrorAs(t, err, &damaged)
			var corrupt *repo.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Equal(t, key, corrupt.Key)
			require.Equal(t, result.Problems, damaged.Problems)
			require.Len(t, result.Problems, 1)
			require.Equal(t, key, result.Problems[0].Key)
			require.Contains(t, err.Error(), key)
			requireSound(t, to)
			require.NotContains(t, copiedKeys(t, to), key)
			// Each backup is copied or named.
			require.ElementsMatch(t, w.backups, append(result.Backups, result.Problems[0].Backups...))
			switch folder, rest, _ := strings.Cut(key, "/"); folder {
			case "backups":
				require.Equal(t, []backup.ID{backup.ID(rest)}, result.Problems[0].Backups)
			case "packs":
				if key == m.PackList[len(m.PackList)-1].Key {
					require.Equal(t, []backup.ID{m.ID}, result.Problems[0].Backups)
				} else {
					require.Equal(t, w.backups, result.Problems[0].Backups)
				}
			case "wal":
				for _, id := range result.Problems[0].Backups {
					s, err := backup.Load(t.Context(), w.repo, id)
					require.NoError(t, err)
					require.LessOrEqual(t, s.FirstSegment().Name(), path.Base(key))
					require.GreaterOrEqual(t, s.LastSegment().Name(), path.Base(key))
				}
			}
			// Once it is whole again, the rest follows.
			_, err = backup.Copy(t.Context(), w.repo, to, nil)
			require.NoError(t, err)
			requireCopied(t, w.repo, to)
		})
	}
}

// Of what is missing, that a backup needs, the same.
func TestCopyMissing(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)
	full, err := backup.Load(t.Context(), w.repo, w.backups[0])
	require.NoError(t, err)
	segment := ""
	for _, key := range keys(t, w.repo.Store(), "wal/") {
		if path.Base(key) == full.LastSegment().Name() {
			segment = key
		}
	}
	require.NoError(t, w.repo.Store().Delete(t.Context(), segment))
	to := newRepo(t, nil, nil)
	result, err := backup.Copy(t.Context(), w.repo, to, nil)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, segment, corrupt.Key)
	require.Equal(t, w.backups[1:], result.Backups)

	require.NoError(t, w.repo.Store().Delete(t.Context(), full.PackList[0].Key))
	to = newRepo(t, nil, nil)
	result, err = backup.Copy(t.Context(), w.repo, to, nil)
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, full.PackList[0].Key, corrupt.Key)
	require.Empty(t, result.Backups)
	require.Equal(t, w.backups, result.Problems[0].Backups)
	requireSound(t, to)
}

// hooked calls f before an object is opened.
type hooked struct {
	repo.Store

	f func(key string)
}

func (s hooked) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	s.f(key)
	return s.Store.Open(ctx, key, off, n)
}

// A backup that is deleted while it is copied is left out. One that is taken meanwhile is left for the next copy.
func TestCopyWhileTheSourceChanges(t *testing.T) {
	t.Parallel()
	mem := repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	m, err := backup.Load(t.Context(), w.repo, w.backups[1])
	require.NoError(t, err)
	last := m.PackList[len(m.PackList)-1].Key
	done := false
	from, err := repo.Open(t.Context(), hooked{mem, func(key string) {
		if key != last || done {
			return
		}
		done = true
		w.take(t, backup.Full)
		require.NoError(t, mem.Delete(context.Background(), "backups/"+string(m.ID)))
		require.NoError(t, mem.Delete(context.Background(), last))
	}}, &repo.Options{Now: clock()})
	require.NoError(t, err)
	to := newRepo(t, nil, nil)
	result, err := backup.Copy(t.Context(), from, to, &backup.CopyOptions{Jobs: 1})
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, w.backups[:1], result.Backups)
	require.Equal(t, []backup.ID{m.ID}, result.Expired)
	require.Equal(t, keys(t, mem, "wal/"), keys(t, to.Store(), "wal/"), "WAL goes on to the end that there is by then")
	requireReachable(t, to)
	result, err = backup.Copy(t.Context(), w.repo, to, nil)
	require.NoError(t, err)
	require.Equal(t, w.backups[2:], result.Backups)
	requireReachable(t, to)
}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)

	t.Run("another cluster's repository", func(t *testing.T) {
		to := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), to, backuptest.New(&backuptest.Options{SystemID: 4711}), nil)
		require.NoError(t, err)
		before := copiedKeys(t, to)
		_, err = backup.Copy(t.Context(), w.repo, to, nil)
		var foreign *wal.ForeignError
		require.ErrorAs(t, err, &foreign)
		require.EqualValues(t, 4711, foreign.Want)
		require.Equal(t, before, copiedKeys(t, to))
	})
	t.Run("one that is busy", func(t *testing.T) {
		to := newRepo(t, nil, nil)
		require.NoError(t, to.WithLease(t.Context(), backup.LeaseName, func(context.Context, *repo.Lease) error {
			_, err := backup.Copy(t.Context(), w.repo, to, nil)
			var held *repo.LeaseError
			require.ErrorAs(t, err, &held)
			return nil
		}))
		require.Empty(t, copiedKeys(t, to))
	})
	t.Run("to lay open what is encrypted", func(t *testing.T) {
		cipher, _ := newCipher(t)
		_, err := backup.Copy(t.Context(), newRepo(t, nil, cipher), newRepo(t, nil, nil), nil)
		require.ErrorIs(t, err, backup.ErrDecrypts)
	})
	t.Run("a backup that there is none of", func(t *testing.T) {
		_, err := backup.Copy(t.Context(), w.repo, newRepo(t, nil, nil), &backup.CopyOptions{Backups: []backup.ID{"20260101T000002Z-000000"}})
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = backup.Copy(t.Context(), w.repo, newRepo(t, nil, nil), &backup.CopyOptions{Backups: []backup.ID{"yesterday"}})
		require.Error(t, err)
	})
	t.Run("without an identity", func(t *testing.T) {
		all, write := newCipher(t)
		blind := newWorked(t, nil, write)
		_, err := backup.Copy(t.Context(), blind.repo, newRepo(t, nil, all), nil)
		require.ErrorContains(t, err, "identity")
	})
	t.Run("without an end", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := backup.Copy(ctx, w.repo, newRepo(t, nil, nil), nil)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// Where the copy was promoted too, its timeline and the source's have the same number, and are not mixed.
func TestCopyOfAnotherHistory(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)
	to := newRepo(t, nil, nil)
	_, err := backup.Copy(t.Context(), w.repo, to, nil)
	require.NoError(t, err)
	// The copy's cluster continues on timeline 2, from another position.
	other := newWorked(t, nil, nil)
	other.goOn(t)
	for _, x := range []*worked{w, other} {
		x.cluster.Promote()
		x.goOn(t)
	}
	archive, err := wal.NewArchive(to, nil)
	require.NoError(t, err)
	text, err := other.cluster.WAL("00000002.history")
	require.NoError(t, err)
	n, err := wal.ParseName("00000002.history")
	require.NoError(t, err)
	require.NoError(t, archive.PushContent(t.Context(), n, strings.NewReader(string(text)), int64(len(text))))
	before := copiedKeys(t, to)
	w.take(t, backup.Full)
	_, err = backup.Copy(t.Context(), w.repo, to, nil)
	var conflict *wal.ConflictError
	require.ErrorAs(t, err, &conflict)
	for _, key := range copiedKeys(t, to) {
		if !strings.Contains(strings.Join(before, "\n"), key) {
			require.NotContains(t, key, "/00000002/", "nothing of that timeline")
		}
	}
	requireReachable(t, to)
}

// Of selected backups, the WAL that can be reached from them, and no other.
func TestCopySelected(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)
	w.cluster.Promote()
	w.goOn(t)
	last := w.take(t, backup.Full)
	all := keys(t, w.repo.Store(), "wal/")
	from := func(first string) (some []string) {
		for _, key := range all {
			if b := path.Base(key); strings.HasSuffix(b, ".history") || b[8:] >= first[8:] {
				some = append(some, key)
			}
		}
		return some
	}
	for i, id := range w.backups {
		m, err := backup.Load(t.Context(), w.repo, id)
		require.NoError(t, err)
		to := newRepo(t, nil, nil)
		result, err := backup.Copy(t.Context(), w.repo, to, &backup.CopyOptions{Backups: []backup.ID{id, id}})
		require.NoError(t, err)
		require.Equal(t, []backup.ID{id}, result.Backups)
		if id == last.ID {
			require.Contains(t, keys(t, to.Store(), "wal/")[0], "/00000002")
		} else {
			require.Equal(t, from(m.FirstSegment().Name()), keys(t, to.Store(), "wal/"))
		}
		requireReachable(t, to)

		to = newRepo(t, nil, nil)
		_, err = backup.Copy(t.Context(), w.repo, to, &backup.CopyOptions{Backups: []backup.ID{id}, OnlyConsistent: true})
		require.NoError(t, err)
		segments := 0
		for _, key := range keys(t, to.Store(), "wal/") {
			if !strings.HasSuffix(key, ".history") {
				segments++
			}
		}
		require.EqualValues(t, m.LastSegment().Number-m.FirstSegment().Number+1, segments, "%d", i)
		requireReachable(t, to)
	}
}

// Damage of the newest WAL that both have is told, and what does not need it is copied, whichever of them it is in.
func TestCopyCommonWALDamaged(t *testing.T) {
	t.Parallel()
	mem := repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	for _, side := range []string{"source", "destination"} {
		t.Run(side, func(t *testing.T) {
			there := repotest.Mem(nil)
			_, err := backup.Copy(t.Context(), w.repo, newRepo(t, there, nil), nil)
			require.NoError(t, err)
			segments := keys(t, there, "wal/")
			last := segments[len(segments)-1]
			m := w.take(t, backup.Full)
			stores := map[string]repo.Store{"source": mem, "destination": there}
			stores[side] = repotest.Faulty(stores[side], repotest.Fault{Op: repotest.OpOpen, Key: last, Do: repotest.Flip(70)})
			to := reopen(t, stores["destination"], nil)
			result, err := backup.Copy(t.Context(), reopen(t, stores["source"], nil), to, nil)
			var damaged *backup.CopyError
			require.ErrorAs(t, err, &damaged)
			require.Equal(t, []backup.ID{m.ID}, result.Backups)
			require.Len(t, result.Problems, 1)
			require.Equal(t, last, result.Problems[0].Key)
			require.Equal(t, side == "destination", result.Problems[0].Destination)
			require.Empty(t, result.Problems[0].Backups)
			require.Equal(t, keys(t, mem, "wal/"), keys(t, there, "wal/"))
			requireSound(t, reopen(t, there, nil))

			// Where all that both have is damaged, nobody can tell whether it is the same WAL.
			w.goOn(t)
			before := keys(t, there, "wal/")
			stores[side] = repotest.Faulty(stores[side], repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Do: repotest.Flip(70)})
			result, err = backup.Copy(t.Context(), reopen(t, stores["source"], nil), reopen(t, stores["destination"], nil), nil)
			var corrupt *repo.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.ErrorContains(t, err, "cannot be told")
			require.Nil(t, result)
			require.Equal(t, before, keys(t, there, "wal/"))
		})
	}
}
