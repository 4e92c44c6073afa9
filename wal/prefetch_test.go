package wal_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// heldSegments is a store whose archive holds segments from to to-1.
func heldSegments(t testing.TB, from, to uint64) repo.Store {
	t.Helper()
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	for n := from; n < to; n++ {
		require.NoError(t, push(t, a, segment(n).Name(), content(segment(n))))
	}
	return store
}

func prefetch(t testing.TB, a *wal.Archive, o *wal.PrefetchOptions) *wal.Prefetcher {
	t.Helper()
	p, err := a.Prefetch(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// lying returns the names of segments that lie in a directory that was prefetched to.
func lying(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	names := []string{}
	for _, p := range paths {
		name, _, _ := strings.Cut(filepath.Base(p), "-")
		names = append(names, name)
	}
	return names
}

// requireFetched fetches segment n and demands that it is right.
func requireFetched(t testing.TB, p *wal.Prefetcher, n uint64) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	require.NoError(t, p.Fetch(t.Context(), segment(n).Name(), dst))
	b, err := os.ReadFile(dst)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content(segment(n)), b), "segment %d", n)
	info, err := os.Stat(dst)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	requireOnly(t, filepath.Dir(dst), "RECOVERYXLOG")
}

// opens counts how often each segment was read from the store.
func opens(s *repotest.FaultStore) map[string]int {
	n := map[string]int{}
	for _, c := range s.Calls() {
		if c.Op == repotest.OpOpen && strings.HasPrefix(c.Key, "wal/") {
			n[filepath.Base(c.Key)]++
		}
	}
	return n
}

// TestPrefetchBatch is a process for each segment: one brings the next as well, which then take no request.
func TestPrefetchBatch(t *testing.T) {
	store := repotest.Faulty(heldSegments(t, 1, 8))
	dir := t.TempDir()
	for n := uint64(1); n < 8; n++ {
		p := prefetch(t, openArchive(t, store, nil), &wal.PrefetchOptions{Dir: dir, Segments: 3, Batch: true})
		requireFetched(t, p, n)
		require.NoError(t, p.Close())
		end := min(8, (n-1)/4*4+5)
		require.Equal(t, segmentNames(n+1, end), lying(t, dir), "after %d", n)
	}
	for n, times := range opens(store) {
		if s, err := wal.ParseSegment(n, wal.MinSegmentSize); err == nil && s.Number < 8 {
			require.Equal(t, 1, times, n)
		}
	}
	// The end of the archive is asked for anew each time.
	p := prefetch(t, openArchive(t, store, nil), &wal.PrefetchOptions{Dir: dir, Segments: 3, Batch: true})
	for range 2 {
		dst := filepath.Join(t.TempDir(), "x")
		require.ErrorIs(t, p.Fetch(t.Context(), segment(8).Name(), dst), fs.ErrNotExist)
		requireOnly(t, filepath.Dir(dst))
	}
	require.NoError(t, push(t, openArchive(t, store, nil), segment(8).Name(), content(segment(8))))
	requireFetched(t, p, 8)
}

// TestPrefetchInOneProcess keeps ahead of recovery.
func TestPrefetchInOneProcess(t *testing.T) {
	store := repotest.Faulty(heldSegments(t, 1, 31))
	dir := t.TempDir()
	p := prefetch(t, openArchive(t, store, nil), &wal.PrefetchOptions{Dir: dir, Segments: 5, Jobs: 2})
	for n := uint64(1); n < 31; n++ {
		requireFetched(t, p, n)
		require.LessOrEqual(t, len(lying(t, dir)), 8)
	}
	for name, times := range opens(store) {
		if s, err := wal.ParseSegment(name, wal.MinSegmentSize); err == nil && s.Number < 31 {
			require.Equal(t, 1, times, name)
		}
	}
	require.ErrorIs(t, p.Fetch(t.Context(), segment(31).Name(), filepath.Join(t.TempDir(), "x")), fs.ErrNotExist)
	requireFetched(t, p, 3) // back again
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	require.Empty(t, lying(t, dir))
	requireNoAnswer(t, p.Fetch(t.Context(), segment(40).Name(), filepath.Join(t.TempDir(), "x")), "closed")
}

// TestPrefetchDoesNotRememberWhatIsMissing: what comes to the archive later is found.
func TestPrefetchDoesNotRememberWhatIsMissing(t *testing.T) {
	for _, batch := range []bool{true, false} {
		mem := heldSegments(t, 1, 3)
		a := openArchive(t, mem, nil)
		p := prefetch(t, a, &wal.PrefetchOptions{Dir: t.TempDir(), Batch: batch})
		for n := uint64(1); n < 12; n++ {
			if n >= 3 {
				require.ErrorIs(t, p.Fetch(t.Context(), segment(n).Name(), filepath.Join(t.TempDir(), "x")), fs.ErrNotExist)
				require.NoError(t, push(t, a, segment(n).Name(), content(segment(n))))
			}
			requireFetched(t, p, n)
		}
	}
}

// TestPrefetchAnswersOnlyWithTheArchive: while the store fails, in any way, nothing is said to be missing, and what was
// fetched ahead is right.
func TestPrefetchAnswersOnlyWithTheArchive(t *testing.T) {
	for how, effect := range map[string]repotest.Effect{"fails": repotest.Fail(nil), "is forbidden": repotest.Fail(fs.ErrPermission), "breaks off": repotest.Cut(700), "lies": repotest.Flip(600)} {
		for _, batch := range []bool{true, false} {
			mem, dir := heldSegments(t, 1, 6), t.TempDir()
			faulty := repotest.Faulty(mem, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*[2-9]", Do: effect})
			p := prefetch(t, openArchive(t, faulty, nil), &wal.PrefetchOptions{Dir: dir, Batch: batch})
			requireFetched(t, p, 1)
			for n := uint64(2); n < 6; n++ {
				dst := filepath.Join(t.TempDir(), "x")
				requireNoAnswer(t, p.Fetch(t.Context(), segment(n).Name(), dst), how)
				requireOnly(t, filepath.Dir(dst))
			}
			require.NoError(t, p.Close())
			require.Empty(t, lying(t, dir))
		}
	}
}

// TestPrefetchOfWhatWentBad: a file that is not what it was is fetched again.
func TestPrefetchOfWhatWentBad(t *testing.T) {
	for what, spoil := range map[string]func(t *testing.T, path string, b []byte){
		"flipped": func(t *testing.T, path string, b []byte) {
			b[500_000] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o600))
		},
		"short": func(t *testing.T, path string, _ []byte) { require.NoError(t, os.Truncate(path, 4096)) },
		"empty": func(t *testing.T, path string, _ []byte) { require.NoError(t, os.Truncate(path, 0)) },
		"a directory": func(t *testing.T, path string, _ []byte) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o700))
		},
		"of another place": func(t *testing.T, path string, _ []byte) {
			other := content(segment(9))
			require.NoError(t, os.Remove(path))
			d := digest(other)
			name, _, _ := strings.Cut(filepath.Base(path), "-")
			place(t, filepath.Dir(path), name+"-"+hexOf(d[:]), other)
		},
		"gone": func(t *testing.T, path string, _ []byte) { require.NoError(t, os.Remove(path)) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			o := &wal.PrefetchOptions{Dir: dir, Batch: true, Segments: 1}
			a := openArchive(t, heldSegments(t, 1, 4), nil)
			requireFetched(t, prefetch(t, a, o), 1)
			path := glob(t, glob(t, dir))
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			spoil(t, path, b)
			requireFetched(t, prefetch(t, a, o), 2)
			requireFetched(t, prefetch(t, a, o), 3)
		})
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, x := range b {
		s.WriteByte(digits[x>>4])
		s.WriteByte(digits[x&15])
	}
	return s.String()
}

// TestPrefetchAcrossTimelines: what lies ahead on one timeline is never given for another.
func TestPrefetchAcrossTimelines(t *testing.T) {
	for _, batch := range []bool{true, false} {
		store := heldSegments(t, 1, 6)
		a := openArchive(t, store, nil)
		fork := func(n uint64) []byte {
			b := waltest.Segment(segment(n).On(2), systemID, 18)
			b[9000]++
			return b
		}
		for n := uint64(3); n < 6; n++ {
			require.NoError(t, push(t, a, segment(n).On(2).Name(), fork(n)))
		}
		history := waltest.History(wal.Fork{Timeline: 1, At: segment(3).Start() + 0x60})
		require.NoError(t, push(t, a, "00000002.history", history))
		p := prefetch(t, a, &wal.PrefetchOptions{Dir: t.TempDir(), Batch: batch})
		requireFetched(t, p, 1)
		requireFetched(t, p, 2)
		dst := filepath.Join(t.TempDir(), "x")
		for name, want := range map[string][]byte{"00000002.history": history, segment(3).On(2).Name(): fork(3), segment(4).On(2).Name(): fork(4)} {
			require.NoError(t, p.Fetch(t.Context(), name, dst))
			b, err := os.ReadFile(dst)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, b))
		}
		require.ErrorIs(t, p.Fetch(t.Context(), segment(3).On(3).Name(), dst), fs.ErrNotExist)
		require.ErrorIs(t, p.Fetch(t.Context(), "00000003.history", dst), fs.ErrNotExist)
		requireFetched(t, p, 3)
	}
}

// TestPrefetchIsBounded in bytes, and drops what is old.
func TestPrefetchIsBounded(t *testing.T) {
	for _, batch := range []bool{true, false} {
		store, dir := heldSegments(t, 1, 40), t.TempDir()
		p := prefetch(t, openArchive(t, store, nil), &wal.PrefetchOptions{Dir: dir, Segments: 20, Bytes: 3*wal.MinSegmentSize + 5, Jobs: 1, Batch: batch})
		for _, n := range []uint64{1, 10, 20, 30, 31, 32} {
			requireFetched(t, p, n)
			require.LessOrEqual(t, len(lying(t, dir)), 4) // with one that is being written
		}
	}

	dir := t.TempDir()
	a := openArchive(t, heldSegments(t, 1, 10), nil)
	o := &wal.PrefetchOptions{Dir: dir, Segments: 2, Batch: true}
	requireFetched(t, prefetch(t, a, o), 1)
	require.Equal(t, segmentNames(2, 4), lying(t, dir))
	place(t, glob(t, dir), "left"+".pgcairn-tmp", nil)
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	for _, path := range paths {
		old := time.Now().Add(-2 * time.Hour)
		require.NoError(t, os.Chtimes(path, old, old))
	}
	requireFetched(t, prefetch(t, a, o), 6)
	require.Equal(t, segmentNames(7, 9), lying(t, dir))
}

// TestPrefetchOfAStandbyThatWasPromoted: what its restore_command left is removed when it archives.
func TestPrefetchOfAStandbyThatWasPromoted(t *testing.T) {
	state, pg := t.TempDir(), backlog(t, 1, 3)
	a := remembering(t, heldSegments(t, 1, 6), state)
	requireFetched(t, prefetch(t, a, &wal.PrefetchOptions{Batch: true}), 1)
	paths, err := filepath.Glob(filepath.Join(state, "*", "ahead", "*"))
	require.NoError(t, err)
	require.Len(t, paths, 4)
	old := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(paths[0], old, old))
	_, err = a.PushReady(t.Context(), pg.pgdata, nil)
	require.NoError(t, err)
	require.NoFileExists(t, paths[0])
	require.FileExists(t, paths[1])
}

func TestPrefetchByMany(t *testing.T) {
	dir := t.TempDir()
	store := heldSegments(t, 1, 25)
	var wg sync.WaitGroup
	for i := range 4 {
		p := prefetch(t, openArchive(t, store, nil), &wal.PrefetchOptions{Dir: dir, Batch: i%2 == 0})
		wg.Go(func() {
			dst := filepath.Join(t.TempDir(), "x")
			for n := uint64(1); n < 25; n++ {
				err := p.Fetch(t.Context(), segment(n).Name(), dst)
				b, readErr := os.ReadFile(dst)
				if err != nil || readErr != nil || !bytes.Equal(b, content(segment(n))) {
					t.Error(n, err, readErr)
				}
			}
		})
	}
	wg.Wait()
}

// TestPrefetchBesideAStall: what hangs ahead holds up nobody who did not ask for it.
func TestPrefetchBesideAStall(t *testing.T) {
	mem, dir := heldSegments(t, 1, 10), t.TempDir()
	dst := filepath.Join(t.TempDir(), "x")
	synctest.Test(t, func(t *testing.T) {
		faulty := repotest.Faulty(mem, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*[2-9]", Do: repotest.Stall()})
		a := openArchive(t, faulty, nil)
		for _, batch := range []bool{true, false} {
			p, err := a.Prefetch(&wal.PrefetchOptions{Dir: dir, Batch: batch})
			require.NoError(t, err)
			start := time.Now()
			require.NoError(t, p.Fetch(t.Context(), segment(1).Name(), dst))
			want := time.Duration(0)
			if batch {
				want = 10 * time.Second
			}
			require.Equal(t, want, time.Since(start))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err = p.Fetch(ctx, segment(2).Name(), dst)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			requireNoAnswer(t, err)
			cancel()
			require.NoError(t, p.Close(), "and ends what hangs")
		}
	})
}

func TestPrefetchWhere(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	_, err := a.Prefetch(nil)
	require.ErrorContains(t, err, "no directory")
	_, err = a.Prefetch(&wal.PrefetchOptions{Dir: filepath.Join(t.TempDir(), "pg_wal", "x")})
	require.ErrorContains(t, err, "pg_wal")

	// Where it cannot lie, it is fetched as ever; and on another file system it is copied.
	a = openArchive(t, heldSegments(t, 1, 5), nil)
	for _, dir := range []string{place(t, t.TempDir(), "file", nil), filepath.Join(onAnotherDevice(t), "new")} {
		p := prefetch(t, a, &wal.PrefetchOptions{Dir: dir, Batch: true})
		requireFetched(t, p, 1)
		requireFetched(t, p, 2)
	}
}

func TestServeFetchesAhead(t *testing.T) {
	store, dir := repotest.Faulty(heldSegments(t, 1, 12)), t.TempDir()
	a := openArchive(t, store, nil)
	s := serve(t, a, &wal.ServeOptions{Prefetch: prefetch(t, a, &wal.PrefetchOptions{Dir: dir})})
	for n := uint64(1); n < 12; n++ {
		dst := filepath.Join(t.TempDir(), "x")
		require.NoError(t, s.Fetch(t.Context(), segment(n).Name(), dst))
		b, err := os.ReadFile(dst)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content(segment(n)), b))
	}
	require.ErrorIs(t, s.Fetch(t.Context(), segment(12).Name(), filepath.Join(dir, "x")), fs.ErrNotExist)
	for name, times := range opens(store) {
		if s, err := wal.ParseSegment(name, wal.MinSegmentSize); err == nil && s.Number < 12 {
			require.Equal(t, 1, times, name)
		}
	}
}

// TestClientTakesWhatWasFetchedAhead: it renames the file, and where it cannot, has the server copy it.
func TestClientTakesWhatWasFetchedAhead(t *testing.T) {
	for _, apart := range []bool{false, true} {
		dir := t.TempDir()
		if apart {
			dir = onAnotherDevice(t)
		}
		a := openArchive(t, heldSegments(t, 1, 4), nil)
		p := prefetch(t, a, &wal.PrefetchOptions{Dir: dir})
		s := serve(t, a, &wal.ServeOptions{Prefetch: p})
		out := t.TempDir()
		require.NoError(t, s.Fetch(t.Context(), segment(1).Name(), filepath.Join(out, "1")))
		var ahead []string
		require.Eventually(t, func() bool {
			found, err := filepath.Glob(filepath.Join(dir, "*", segment(2).Name()+"-*"))
			require.NoError(t, err)
			ahead = slices.DeleteFunc(found, func(p string) bool { return strings.HasSuffix(p, "tmp") })
			return len(ahead) == 1
		}, time.Minute, time.Millisecond)
		before, err := os.Stat(ahead[0])
		require.NoError(t, err)

		require.NoError(t, s.Fetch(t.Context(), segment(2).Name(), filepath.Join(out, "2")))
		after, err := os.Stat(filepath.Join(out, "2"))
		require.NoError(t, err)
		require.Equal(t, !apart, os.SameFile(before, after))
		b, err := os.ReadFile(filepath.Join(out, "2"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content(segment(2)), b))
		require.Equal(t, fs.FileMode(0o600), after.Mode())
		require.NotContains(t, lying(t, dir), segment(2).Name())
		requireOnly(t, out, "1", "2")
	}
}

// onAnotherDevice returns a new directory, for the test, on another file system than what t.TempDir returns.
func onAnotherDevice(t *testing.T) string {
	t.Helper()
	device := func(dir string) uint64 {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		return uint64(info.Sys().(*syscall.Stat_t).Dev) //nolint:unconvert // of another size elsewhere
	}
	here := device(t.TempDir())
	for _, base := range []string{"/dev/shm", "/tmp", "/var/tmp"} {
		if device(base) == here {
			continue
		}
		dir, err := os.MkdirTemp(base, "pgcairn-")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		return dir
	}
	require.Fail(t, "there is no other file system")
	return ""
}
