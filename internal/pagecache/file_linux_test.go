package pagecache_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pagecache"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var pageSize = os.Getpagesize()

// noise returns n bytes.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// write writes a file, on disk and not cached.
func write(t *testing.T, dir string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, "file")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(content)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	evict(t, path)
	return path
}

func evict(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// warm has pages of a file cached, and no others.
func warm(t *testing.T, path string, want []bool) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
	for i, cached := range want {
		if cached {
			_, err := f.ReadAt(make([]byte, 1), int64(i*pageSize))
			require.NoError(t, err)
		}
	}
}

// cached tells which pages of a file are cached.
func cached(t *testing.T, path string) []bool {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	f, err := pagecache.Open(path)
	require.NoError(t, err)
	defer f.Close()
	return f.Cached(info.Size())
}

// diskDir returns a directory on a file system that has a page cache of its own: one in memory is nothing but cache.
func diskDir(t *testing.T) string {
	t.Helper()
	here, err := os.MkdirTemp(".", "test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(here)) })
	for _, dir := range []string{t.TempDir(), here} {
		if path := write(t, dir, noise(100_000)); !slices.Contains(cached(t, path), true) {
			return dir
		}
	}
	t.Fatal("neither the directory for temporary files nor this one is on a disk")
	return ""
}

// eachWay runs a test with what the kernel can do, whatever that is, and with doing it by hand.
func eachWay(t *testing.T, test func(t *testing.T, open func(path string) *pagecache.File)) {
	for name, byHand := range map[string]bool{"kernel": false, "by hand": true} {
		t.Run(name, func(t *testing.T) {
			test(t, func(path string) *pagecache.File {
				f, err := pagecache.Open(path)
				require.NoError(t, err)
				if byHand {
					f.ByHand()
				}
				return f
			})
		})
	}
}

// What was not cached before a file was read is not cached afterwards, and what was still is.
func TestCacheIsLeftAsItWas(t *testing.T) {
	dir := diskDir(t)
	patterns := map[string]func(page, pages int) bool{
		"nothing":        func(int, int) bool { return false },
		"everything":     func(int, int) bool { return true },
		"every other":    func(i, _ int) bool { return i%2 == 0 },
		"every third":    func(i, _ int) bool { return i%3 == 1 },
		"runs":           func(i, _ int) bool { return i/50%2 == 1 },
		"the first half": func(i, n int) bool { return i < n/2 },
		"the last page":  func(i, n int) bool { return i == n-1 },
	}
	eachWay(t, func(t *testing.T, open func(string) *pagecache.File) {
		for _, size := range []int{1, pageSize, pageSize + 1, 3*pageSize - 1, 3<<20 + 123} {
			content := noise(size)
			path := write(t, dir, content)
			for name, pattern := range patterns {
				before := make([]bool, (size+pageSize-1)/pageSize)
				for i := range before {
					before[i] = pattern(i, len(before))
				}
				for _, piece := range []int{8192, 100_000, 1 << 20} {
					for _, ahead := range []bool{false, true} {
						var after []bool
						for range 5 { // the kernel may reclaim any page at any time
							evict(t, path)
							warm(t, path, before)
							f := open(path)
							if ahead {
								f.Expect(0, int64(size))
							}
							requireContent(t, content, f, piece)
							if after = cached(t, path); slices.Equal(before, after) {
								break
							}
						}
						require.Equal(t, before, after, "%s of %d bytes, by %d, ahead: %v", name, size, piece, ahead)
					}
				}
			}
		}
	})
}

// requireContent reads a file in pieces, and closes it.
func requireContent(t *testing.T, want []byte, f *pagecache.File, piece int) {
	t.Helper()
	var got bytes.Buffer
	_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{io.NewSectionReader(f, 0, 1<<40)}, make([]byte, piece))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.True(t, bytes.Equal(want, got.Bytes()))
}

// An ordinary read shows that the test above can fail.
func TestOrdinaryReadsLeaveTraces(t *testing.T) {
	path := write(t, diskDir(t), noise(1<<20))
	_, err := os.ReadFile(path)
	require.NoError(t, err)
	require.False(t, slices.Contains(cached(t, path), false))
}

// Nothing is read ahead but what is expected; and what was read ahead in vain is dropped as well.
func TestReadingAhead(t *testing.T) {
	const mib = 1 << 20
	path := write(t, diskDir(t), noise(8*mib))
	eachWay(t, func(t *testing.T, open func(string) *pagecache.File) {
		f := open(path)
		p := make([]byte, mib)
		read := func(off int64, aheadFrom, aheadTo int64) {
			t.Helper()
			_, err := f.ReadAt(p, off)
			require.NoError(t, err)
			from, to := f.Ahead()
			require.Equal(t, [2]int64{aheadFrom, aheadTo}, [2]int64{from, to})
		}
		read(0, mib, mib)
		f.Expect(mib, 2*mib+mib/2)
		read(mib, 2*mib, 3*mib)
		read(2*mib, 3*mib, 3*mib+mib/2)
		read(3*mib, 4*mib, 4*mib) // further than was said
		require.False(t, slices.Contains(cached(t, path), true))

		f.Expect(0, 8*mib)
		read(4*mib, 5*mib, 6*mib)
		read(5*mib+mib/2, 6*mib+mib/2, 7*mib+mib/2) // half is skipped
		read(0, mib, 2*mib)                         // all is
		read(3*mib, 4*mib, 5*mib)
		p = p[:8192]
		read(4*mib, 4*mib+8192, 5*mib) // less than was thought
		read(4*mib+8192, 4*mib+16384, 5*mib)
		f.Expect(0, 4*mib)
		read(4*mib+16384, 4*mib+24576, 5*mib)
		require.NoError(t, f.Close())
		require.False(t, slices.Contains(cached(t, path), true))
	})
}

// It reads as any file does.
func TestReadAt(t *testing.T) {
	dir := diskDir(t)
	eachWay(t, func(t *testing.T, open func(string) *pagecache.File) {
		for _, size := range []int{0, 1, 10_000} {
			path := write(t, dir, noise(size))
			plain, err := os.Open(path)
			require.NoError(t, err)
			f := open(path)
			for _, off := range []int64{-1, 0, 1, 4095, 4096, 9_999, 10_000, 10_001, 1 << 40} {
				for _, n := range []int{1, 4096, 5000, 20_000} {
					want, got := make([]byte, n), make([]byte, n)
					wantN, wantErr := plain.ReadAt(want, off)
					gotN, gotErr := f.ReadAt(got, off)
					require.Equal(t, wantN, gotN)
					require.Equal(t, want, got)
					require.Equal(t, wantErr, gotErr)
				}
			}
			require.NoError(t, f.Close())
			require.NoError(t, plain.Close())
			_, err = f.ReadAt(make([]byte, 1), 0)
			require.ErrorIs(t, err, fs.ErrClosed)
			require.ErrorIs(t, f.Close(), fs.ErrClosed)
		}
		f := open(dir)
		_, err := f.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, unix.EISDIR)
		require.NoError(t, f.Close())
	})
	_, err := pagecache.Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A file is read by many, in any order, while it grows and shrinks.
func TestConcurrentReads(t *testing.T) {
	dir := diskDir(t)
	eachWay(t, func(t *testing.T, open func(string) *pagecache.File) {
		const size = 2 << 20
		content := noise(size)
		path := write(t, dir, content)
		f := open(path)
		f.Expect(0, size)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				for range 200 {
					off, p := random.IntN(size), make([]byte, 1+random.IntN(300_000))
					n, err := f.ReadAt(p, int64(off))
					if err != nil && !errors.Is(err, io.EOF) || n == 0 || !bytes.HasPrefix(content[off:], p[:min(n, size-off)]) {
						t.Error(off, n, err)
					}
				}
			})
		}
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		for range 50 {
			_, err := w.WriteAt(noise(100_000), size)
			require.NoError(t, err)
			require.NoError(t, w.Truncate(size))
		}
		require.NoError(t, w.Close())
		wg.Wait()
		require.NoError(t, f.Close())
	})
}
