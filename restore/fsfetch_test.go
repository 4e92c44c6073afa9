package restore_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// large makes files of several frames, that do not shrink.
func large(sizes map[string]int) fstest.MapFS {
	files := fstest.MapFS{"PG_VERSION": {Data: []byte("18\n")}}
	for i, name := range slices.Sorted(maps.Keys(sizes)) {
		b := make([]byte, sizes[name])
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(b)
		files[name] = &fstest.MapFile{Data: b}
	}
	return files
}

// watched counts what is read of packs.
type watched struct {
	mu       sync.Mutex
	requests int
	bytes    int64
}

func (w *watched) store(s repo.Store) repo.Store {
	return repo.Observe(s, func(o repo.Op) {
		if kindOf(o.Key) == "packs" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.requests, w.bytes = w.requests+1, w.bytes+o.Bytes
		}
	})
}

func (w *watched) took() (requests int, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	requests, bytes = w.requests, w.bytes
	w.requests, w.bytes = 0, 0
	return requests, bytes
}

// watch opens a backup as a file system and counts what that takes.
func (f *fake) watch(t *testing.T, o *restore.FSOptions) (*restore.FS, *watched) {
	t.Helper()
	w := &watched{}
	r, err := f.open(t, w.store(f.store))
	require.NoError(t, err)
	return openFS(t, r, f.m.ID, o), w
}

const mib = 1 << 20

// Reading costs the frames that hold what is read, once.
func TestFSFetchesLittle(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		f := newFake(t, encrypted, &backuptest.Options{Files: large(map[string]int{"base/5/20000": 6 * mib, "base/5/20001": 5 * 8192, "base/5/20002": mib})})
		s, w := f.watch(t, nil)
		cost := func(what string, read func() error, requests int, atMost int64) {
			t.Helper()
			require.NoError(t, read(), what)
			n, b := w.took()
			if encrypted && requests > 0 { // what age needs of a pack, and chunks of 64 KiB on either side
				requests, atMost = requests+2*2, atMost+2*(8<<10+64<<10)+2*(64<<10)+4<<10
			}
			require.LessOrEqual(t, n, requests, what)
			require.LessOrEqual(t, b, atMost, what)
		}
		readFile := func(name string) func() error {
			return func() error { _, err := s.ReadFile(name); return err }
		}
		cost("all names", func() error { files(t, s); return nil }, 0, 0)
		for _, name := range []string{"global/pg_control", "backup_label"} {
			cost(name, readFile(name), 0, 0)
		}
		cost("a small relation", readFile("base/5/20001"), 2, mib+4<<10)
		cost("it again", readFile("base/5/20001"), 0, 0)
		big := openFile(t, s, "base/5/20000")
		page := func(block int64) func() error {
			return func() error { _, err := big.ReadAt(make([]byte, 8192), block*8192); return err }
		}
		cost("a page", page(700), 1, mib+4<<10)
		cost("the one beside it", page(701), 0, 0)
		cost("one elsewhere", page(300), 1, mib+4<<10)
		require.NoError(t, s.Close())
	}
}

// What was used last stays, as far as there is room.
func TestFSKeepsWhatWasUsedLast(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Files: large(map[string]int{"base/5/20000": 6 * mib})})
	for _, tt := range []struct {
		room     int64
		frames   []int64
		requests int
	}{
		{2*mib + 1000, []int64{1, 2, 1, 3, 1, 3, 1}, 3},
		{2*mib + 1000, []int64{1, 2, 1, 3, 2}, 4},
		{2*mib + 1000, []int64{1, 2, 3, 1, 2, 3}, 6},
		{3*mib + 1000, []int64{1, 2, 3, 1, 2, 3}, 3},
		{1, []int64{1, 1, 1}, 3},
		{0, []int64{1, 2, 3, 4, 5, 1, 2, 3, 4, 5}, 5},
	} {
		s, w := f.watch(t, &restore.FSOptions{CacheBytes: tt.room})
		file := openFile(t, s, "base/5/20000")
		for _, frame := range tt.frames {
			_, err := file.ReadAt(make([]byte, 10), frame*mib+100)
			require.NoError(t, err)
		}
		n, _ := w.took()
		require.Equal(t, tt.requests, n, "%v", tt)
	}
}

// Many readers at a time get what is there, and each frame is asked for once.
func TestFSConcurrentReaders(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		f := newFake(t, encrypted, &backuptest.Options{Files: large(map[string]int{"base/5/20000": 5*mib + 8192})})
		want, err := f.c.Read("base/5/20000")
		require.NoError(t, err)
		s, w := f.watch(t, nil)
		shared := openFile(t, s, "base/5/20000")
		var wg sync.WaitGroup
		for i := range uint64(16) {
			own := openFile(t, s, "base/5/20000")
			wg.Go(func() {
				random := rand.New(rand.NewPCG(i, 0))
				for range 20 {
					off, b := random.Int64N(5*mib), make([]byte, 8192)
					if _, err := shared.ReadAt(b, off); err != nil || !bytes.Equal(b, want[off:off+8192]) {
						t.Error("other bytes", off, err)
					}
					if _, err := own.Seek(off, io.SeekStart); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadFull(own, b); err != nil || !bytes.Equal(b, want[off:off+8192]) {
						t.Error("other bytes", off, err)
					}
				}
			})
		}
		wg.Wait()
		n, _ := w.took()
		frames := 0
		for _, p := range f.m.PackList {
			frames += len(p.Frames)
		}
		if encrypted {
			frames += 2 * len(f.m.PackList)
		}
		require.LessOrEqual(t, n, frames)
	}
}

// A flipped bit, or a pack that is not there, is told by the pack's name, and is no answer on whether the file exists. The
// rest can be read.
func TestFSOfDamagedPacks(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		f := newFake(t, encrypted, &backuptest.Options{Files: large(map[string]int{"base/5/20000": 16 * mib})})
		key := f.m.PackList[0].Key
		whole := content(t, f.store)[key]
		require.Greater(t, len(f.m.PackList), 1)
		damaged := doctored{f.store, map[string][]byte{key: flipped(whole, 5*mib)}}
		cut := doctored{f.store, map[string][]byte{key: whole[:len(whole)/2]}}
		for name, store := range map[string]repo.Store{
			"flipped": damaged, "cut": cut,
			"missing": repotest.Faulty(f.store, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: repotest.Fail(fs.ErrNotExist)}),
			"outage":  repotest.Faulty(f.store, repotest.Fault{Op: repotest.OpRead, Key: key}),
		} {
			r, err := f.open(t, store)
			require.NoError(t, err)
			s := openFS(t, r, f.m.ID, nil)
			_, err = s.ReadFile("base/5/20000")
			requireNoAnswer(t, err)
			require.ErrorContains(t, err, key)
			require.ErrorContains(t, err, "base/5/20000")
			var corrupt *repo.CorruptError
			if name == "flipped" || name == "cut" {
				require.ErrorAs(t, err, &corrupt)
				require.Equal(t, key, corrupt.Key)
			} else {
				require.NotErrorAs(t, err, &corrupt)
			}
			require.Equal(t, name == "outage", errors.Is(err, repotest.ErrInjected), "%s: %v", name, err)
			// What lies in the other pack.
			_, err = openFile(t, s, "base/5/20000").ReadAt(make([]byte, 8192), 16*mib-8192)
			require.NoError(t, err, name)
			_, err = s.ReadFile("global/pg_control")
			require.NoError(t, err, name)
		}
	}
}

// What failed is tried again by the next read.
func TestFSAfterAnOutage(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		f := newFake(t, encrypted, nil)
		for nth := 1; ; nth++ {
			store := repotest.Faulty(f.store, repotest.Fault{Op: repotest.OpOpen, Key: "packs/*/*", Nth: nth})
			r, err := f.open(t, store)
			require.NoError(t, err)
			s := openFS(t, r, f.m.ID, nil)
			_, err = s.ReadFile("base/5/16384")
			if store.Struck() == 0 {
				require.NoError(t, err)
				require.Greater(t, nth, 1)
				break
			}
			require.ErrorIs(t, err, repotest.ErrInjected)
			requireNoAnswer(t, err)
			requireCluster(t, s, f.c)
		}
	}
}
