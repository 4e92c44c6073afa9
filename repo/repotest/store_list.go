package repotest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// testList lists more objects than any service has on one page.
func testList(t *testing.T, s repo.Store, dir string) {
	const count, writers = 2100, 16
	var keys []string
	for i := range count {
		// Several depths, many to a folder, and folders whose names are the beginnings of others.
		key := fmt.Sprintf("%s%x/%04d", dir, i%3, i)
		if i%7 == 0 {
			key = fmt.Sprintf("%s%x0/%d/%04d", dir, i%3, i%5, i)
		}
		keys = append(keys, key)
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < count; i += writers {
				_, err := write(t.Context(), s, keys[i], pattern(i%10, 0))
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	slices.Sort(keys)
	require.Equal(t, keys, list(t, s, dir))

	for _, prefix := range []string{
		dir, strings.TrimSuffix(dir, "/"), dir + "0", dir + "0/", dir + "00", dir + "00/", dir + "00/0", dir + "1/0",
		dir + "1/000", dir + "10/3/", dir + "2/0023", dir + "2/00234", dir + "3", dir + "0/0001/", dir + "none/such",
		dir + ".", dir + "..", dir + " ",
	} {
		want := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !strings.HasPrefix(k, prefix) })
		if want == nil {
			want = []string{}
		}
		require.Equal(t, want, list(t, s, prefix), "prefix %q", prefix)
	}
	require.Subset(t, list(t, s, ""), keys)

	t.Run("what is listed is what Stat tells", func(t *testing.T) {
		n := 0
		for info, err := range s.List(t.Context(), dir+"0/1") {
			require.NoError(t, err)
			stat, err := s.Stat(t.Context(), info.Key)
			require.NoError(t, err)
			require.Equal(t, stat.Key, info.Key)
			require.Equal(t, stat.Size, info.Size)
			require.WithinDuration(t, stat.ModTime, info.ModTime, time.Second) // HTTP has whole seconds
			if n++; n == 20 {
				break
			}
		}
		assert.Equal(t, 20, n)
	})
	t.Run("a loop left early can be begun again", func(t *testing.T) {
		seq := s.List(t.Context(), dir)
		for range 2 {
			var got []string
			for info, err := range seq {
				require.NoError(t, err)
				if got = append(got, info.Key); len(got) == 1200 {
					break
				}
			}
			require.Equal(t, keys[:1200], got)
		}
	})
}

// testListOrder has keys that a walk through directories finds in another order than that of their bytes.
func testListOrder(t *testing.T, s repo.Store, dir string) {
	keys := []string{
		"a b/x", "a!", "a+/z", "a,", "a-b", "a-b2/c", "a.d/e", "a.f", "a/b", "a/b-c", "a/b.d/e", "a/bb/c", "a/c/d",
		"a0", "a0.x", "a=/y", "aa/b", "aa0", "a~", "b",
	}
	require.True(t, slices.IsSorted(keys))
	for i := range keys {
		keys[i] = dir + keys[i]
		put(t, s, keys[i], nil)
	}
	require.Equal(t, keys, list(t, s, dir))
	for _, prefix := range []string{"a", "a-", "a-b", "a.", "a/", "a/b", "a0", "aa", "b", "a/b."} {
		want := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !strings.HasPrefix(k, dir+prefix) })
		require.Equal(t, want, list(t, s, dir+prefix), "prefix %q", prefix)
	}
}

// testListConcurrent lists while objects come and go: those that stay are each listed once.
func testListConcurrent(t *testing.T, s repo.Store, dir string) {
	var stay []string
	for i := range 20 {
		key := fmt.Sprintf("%sd%d/stay %02d", dir, i%4, i)
		stay = append(stay, key)
		put(t, s, key, nil)
	}
	slices.Sort(stay)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				key := fmt.Sprintf("%sd%d/go %d %d", dir, i%6, w, i)
				_, err := write(t.Context(), s, key, nil)
				assert.NoError(t, err)
				assert.NoError(t, s.Delete(t.Context(), key))
			}
		})
	}
	for range 10 {
		keys := list(t, s, dir)
		assert.True(t, slices.IsSorted(keys))
		keys = slices.DeleteFunc(keys, func(k string) bool { return !strings.Contains(k, "/stay ") })
		assert.Equal(t, stay, keys)
	}
	wg.Wait()
	assert.Equal(t, stay, list(t, s, dir))
}
