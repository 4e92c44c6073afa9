package repotest

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

func testCreate(t *testing.T, s repo.Store, dir string) {
	data := pattern(1000, 1)
	info, err := write(t.Context(), s, dir+"a/b/c", data)
	require.NoError(t, err)
	assert.Equal(t, dir+"a/b/c", info.Key)
	assert.Equal(t, int64(1000), info.Size)
	requireContent(t, s, dir+"a/b/c", data)
	info, err = s.Stat(t.Context(), dir+"a/b/c")
	require.NoError(t, err)
	assert.False(t, info.ModTime.IsZero())
}

func testEmpty(t *testing.T, s repo.Store, dir string) {
	w, err := s.Create(t.Context(), dir+"empty")
	require.NoError(t, err)
	info, err := w.Commit()
	require.NoError(t, err)
	assert.Zero(t, info.Size)
	require.NoError(t, w.Close())
	requireContent(t, s, dir+"empty", nil)
	for _, n := range []int64{-1, 0, 10} {
		got, err := get(t.Context(), s, dir+"empty", 0, n)
		require.NoError(t, err)
		assert.Empty(t, got)
	}
}

func testPieces(t *testing.T, s repo.Store, dir string) {
	data := pattern(300_000, 2)
	w, err := s.Create(t.Context(), dir+"pieces")
	require.NoError(t, err)
	defer w.Close()
	own := make([]byte, 100_000) // changed after each Write, as io.Writer allows
	for rest, n := data, 0; len(rest) > 0; n = (n*7 + 1) % len(own) {
		k := copy(own[:n], rest)
		got, err := w.Write(own[:k])
		require.NoError(t, err)
		require.Equal(t, k, got)
		clear(own)
		rest = rest[k:]
	}
	_, err = w.Commit()
	require.NoError(t, err)
	requireContent(t, s, dir+"pieces", data)
}

func testBig(t *testing.T, s repo.Store, dir string) {
	data := pattern(9<<20+3, 3)
	put(t, s, dir+"one write", data)
	requireContent(t, s, dir+"one write", data)

	w, err := s.Create(t.Context(), dir+"many writes")
	require.NoError(t, err)
	defer w.Close()
	for rest := data; len(rest) > 0; {
		n, err := w.Write(rest[:min(len(rest), 1<<20)])
		require.NoError(t, err)
		rest = rest[n:]
	}
	info, err := w.Commit()
	require.NoError(t, err)
	assert.Equal(t, int64(len(data)), info.Size)
	requireContent(t, s, dir+"many writes", data)
}

func testCommitVisibility(t *testing.T, s repo.Store, dir string) {
	for name, size := range map[string]int{"small": 10, "big": 9 << 20} {
		data := pattern(size, 4)
		w, err := s.Create(t.Context(), dir+name)
		require.NoError(t, err)
		requireMissing(t, s, dir+name)
		_, err = w.Write(data)
		require.NoError(t, err)
		requireMissing(t, s, dir+name)
		assert.Empty(t, list(t, s, dir+name))
		_, err = w.Commit()
		require.NoError(t, err)
		requireContent(t, s, dir+name, data)
		require.NoError(t, w.Close())
		requireContent(t, s, dir+name, data)
	}
	assert.Equal(t, []string{dir + "big", dir + "small"}, list(t, s, dir), "and nothing else")
}

func testAbort(t *testing.T, s repo.Store, dir string) {
	for _, size := range []int{0, 10, 9 << 20} {
		key := fmt.Sprint(dir, "aborted ", size)
		w, err := s.Create(t.Context(), key)
		require.NoError(t, err)
		_, err = w.Write(pattern(size, 5))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.NoError(t, w.Close())
		requireMissing(t, s, key)
		put(t, s, key, []byte("in its place"))
		requireContent(t, s, key, []byte("in its place"))
	}
}

func testClosedWriter(t *testing.T, s repo.Store, dir string) {
	w, err := s.Create(t.Context(), dir+"committed")
	require.NoError(t, err)
	_, err = w.Write([]byte("all of it"))
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
	_, err = w.Write([]byte("more"))
	require.Error(t, err)
	_, err = w.Commit()
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrExist, "a second Commit is a mistake, not a rival's object")
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	requireContent(t, s, dir+"committed", []byte("all of it"))

	w, err = s.Create(t.Context(), dir+"aborted")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, err = w.Write([]byte("more"))
	require.Error(t, err)
	_, err = w.Commit()
	require.Error(t, err)
	requireMissing(t, s, dir+"aborted")
}

func testExisting(t *testing.T, s repo.Store, dir string) {
	late, err := s.Create(t.Context(), dir+"taken") // begun before there is any
	require.NoError(t, err)
	defer late.Close()
	_, err = late.Write([]byte("late"))
	require.NoError(t, err)
	put(t, s, dir+"taken", []byte("first"))
	for range 2 {
		_, err = write(t.Context(), s, dir+"taken", []byte("second"))
		require.ErrorIs(t, err, fs.ErrExist)
		require.NotErrorIs(t, err, fs.ErrNotExist)
	}
	_, err = write(t.Context(), s, dir+"taken", pattern(9<<20, 6))
	require.ErrorIs(t, err, fs.ErrExist)
	_, err = late.Commit()
	require.ErrorIs(t, err, fs.ErrExist)
	require.NoError(t, late.Close())
	requireContent(t, s, dir+"taken", []byte("first"))
	assert.Equal(t, []string{dir + "taken"}, list(t, s, dir))
}

func testRace(t *testing.T, s repo.Store, dir string) {
	const writers = 64
	var (
		errs  [writers]error
		start = make(chan struct{})
		wg    sync.WaitGroup
	)
	content := func(i int) []byte { return pattern(3000+i, uint64(i)) }
	for i := range writers {
		wg.Go(func() {
			<-start
			_, errs[i] = write(t.Context(), s, dir+"race/raced", content(i))
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil {
			require.Negative(t, winner, "two writers won")
			winner = i
			continue
		}
		require.ErrorIs(t, err, fs.ErrExist)
	}
	require.GreaterOrEqual(t, winner, 0, "no writer won")
	requireContent(t, s, dir+"race/raced", content(winner))
	assert.Equal(t, []string{dir + "race/raced"}, list(t, s, dir))
}

func testCancelledWrite(t *testing.T, s repo.Store, dir string) {
	for _, size := range []int{0, 10, 9 << 20} {
		key := fmt.Sprint(dir, "cancelled ", size)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w, err := s.Create(ctx, key)
		require.NoError(t, err)
		_, err = w.Write(pattern(size, 7))
		require.NoError(t, err)
		cancel()
		if _, err = w.Write([]byte("more")); err != nil { // a store may find out at Commit
			requireCancelled(t, err)
		}
		_, err = w.Commit()
		requireCancelled(t, err)
		require.NoError(t, w.Close())
		requireMissing(t, s, key)
		put(t, s, key, []byte("in its place"))
		requireContent(t, s, key, []byte("in its place"))
	}
}
