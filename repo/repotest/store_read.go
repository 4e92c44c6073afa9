package repotest

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

func testRanges(t *testing.T, s repo.Store, dir string) {
	const size = 100_000
	data := pattern(size, 10)
	put(t, s, dir+"object", data)
	tests := []struct {
		name     string
		off, n   int64
		from, to int64 // what is expected of data
	}{
		{"all", 0, -1, 0, size},
		{"all, by length", 0, size, 0, size},
		{"all, by any negative length", 0, math.MinInt64, 0, size},
		{"first byte", 0, 1, 0, 1},
		{"last byte", size - 1, 1, size - 1, size},
		{"last byte, to the end", size - 1, -1, size - 1, size},
		{"middle", 40_000, 12_345, 40_000, 52_345},
		{"from the middle to the end", 70_001, -1, 70_001, size},
		{"over the end", 99_000, 5000, 99_000, size},
		{"over the end from the start", 0, size + 1, 0, size},
		{"the longest range there is", 1, math.MaxInt64, 1, size},
		{"nothing at the start", 0, 0, 0, 0},
		{"nothing in the middle", 500, 0, 0, 0},
		{"nothing at the end", size, 0, 0, 0},
		{"at the end", size, -1, 0, 0},
		{"at the end, by length", size, 10, 0, 0},
		{"past the end", size + 5000, -1, 0, 0},
		{"past the end, by length", size + 5000, 10, 0, 0},
		{"far past the end", math.MaxInt64 - 10, 100, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := get(t.Context(), s, dir+"object", tt.off, tt.n)
			require.NoError(t, err)
			require.Len(t, got, int(tt.to-tt.from))
			require.True(t, bytes.Equal(data[tt.from:tt.to], got), "the content differs")
		})
	}
	t.Run("a negative offset is refused", func(t *testing.T) {
		_, err := s.Open(t.Context(), dir+"object", -1, 10)
		require.Error(t, err)
	})
}

func testConcurrentReaders(t *testing.T, s repo.Store, dir string) {
	const size, readers = 1 << 20, 32
	data := pattern(size, 11)
	put(t, s, dir+"object", data)
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			off := int64(i) * (size / readers)
			got, err := get(t.Context(), s, dir+"object", off, size/4)
			if !assert.NoError(t, err) { //nolint:testifylint // not in the test's goroutine
				return
			}
			assert.True(t, bytes.Equal(data[off:min(off+size/4, size)], got), "the content differs")
		})
	}
	wg.Wait()
}

func testCancelledRead(t *testing.T, s repo.Store, dir string) {
	put(t, s, dir+"object", pattern(9<<20, 12))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := s.Open(ctx, dir+"object", 0, -1)
	require.NoError(t, err)
	defer body.Close()
	_, err = io.ReadFull(body, make([]byte, 1000))
	require.NoError(t, err)
	cancel()
	_, err = io.Copy(io.Discard, body)
	requireCancelled(t, err)
}

func testMissing(t *testing.T, s repo.Store, dir string) {
	put(t, s, dir+"there/object", []byte("x"))
	for _, key := range []string{
		dir + "missing",
		dir + "there",           // a folder
		dir + "the",             // the beginning of one
		dir + "there/objec",     // the beginning of a key
		dir + "there/object2",   // more than a key
		dir + "there/object/is", // under an object as if that were a folder
		dir + "not/there/either",
		dir + strings.Repeat("long", 50),
	} {
		t.Run(key, func(t *testing.T) {
			requireMissing(t, s, key)
			_, err := s.Open(t.Context(), key, 5, -1)
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, s.Delete(t.Context(), key))
		})
	}
	requireContent(t, s, dir+"there/object", []byte("x"))
}

// testCancelledContext asks for what is there and for what is not: neither may be answered.
func testCancelledContext(t *testing.T, s repo.Store, dir string) {
	put(t, s, dir+"there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, key := range []string{dir + "there", dir + "missing"} {
		_, err := s.Stat(ctx, key)
		requireCancelled(t, err)
		_, err = s.Open(ctx, key, 0, -1)
		requireCancelled(t, err)
		requireCancelled(t, s.Delete(ctx, key))
		_, err = write(ctx, s, key, []byte("y"))
		requireCancelled(t, err)
		n := 0
		for _, err := range s.List(ctx, key) {
			n++
			requireCancelled(t, err)
		}
		assert.Equal(t, 1, n, "the error, and nothing after it")
	}
	requireContent(t, s, dir+"there", []byte("x"))
	requireMissing(t, s, dir+"missing")
}

func testDelete(t *testing.T, s repo.Store, dir string) {
	put(t, s, dir+"a/one", []byte("1"))
	put(t, s, dir+"a/two", []byte("2"))
	require.NoError(t, s.Delete(t.Context(), dir+"a/one"))
	requireMissing(t, s, dir+"a/one")
	requireContent(t, s, dir+"a/two", []byte("2"))
	require.NoError(t, s.Delete(t.Context(), dir+"a/one"), "again")
	require.NoError(t, s.Delete(t.Context(), dir+"a/two"))
	require.NoError(t, s.Delete(t.Context(), dir+"a"), "a folder is no object")
	assert.Empty(t, list(t, s, dir))
	put(t, s, dir+"a/one", []byte("another"))
	requireContent(t, s, dir+"a/one", []byte("another"))
}
