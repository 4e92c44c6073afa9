package pagecache

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// File is a file that is read without a trace in the page cache. It is safe for concurrent use.
type File struct {
	f      *os.File
	kernel atomic.Bool // the kernel does it, as far as is known

	mu       sync.Mutex
	ahead    pages // that were asked for and not read yet
	expected int64 // up to where to read ahead
}

// Open opens a file for reading.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	file := &File{f: f}
	file.kernel.Store(true)
	file.advise(0, 0, unix.FADV_RANDOM) // no reading ahead
	return file, nil
}

// Expect says that n bytes from off on will be read in order: then, while some of them are in use, as many behind them
// are read ahead. It is a hint.
func (f *File) Expect(off, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expected = off + n
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || len(p) == 0 {
		return f.f.ReadAt(p, off)
	}
	from, to := off/pageSize*pageSize, (off+int64(len(p))+pageSize-1)/pageSize*pageSize
	ahead := f.readAhead(from, to, p)
	if f.kernel.Load() {
		if n, ok, err := f.readUncached(p, off, 0); ok {
			return n, err
		}
		// It cannot, or something is wrong, which reading as usual will tell.
		f.kernel.Store(false)
	}
	before := f.residency(from, to)
	before.override(ahead)
	n, err := f.f.ReadAt(p, off)
	f.drop(before)
	return n, err
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(f.ahead)
	f.ahead = pages{}
	return f.f.Close()
}

// readAhead asks for the pages behind those that are to be read now, and returns what was cached of these when they
// were asked for themselves. It may use scratch.
func (f *File) readAhead(from, to int64, scratch []byte) pages {
	f.mu.Lock()
	defer f.mu.Unlock()
	skipped, now, ahead := f.ahead.cut(from, to)
	f.drop(skipped)
	if len(ahead.cached) == 0 {
		ahead.from = to
	}
	begin := ahead.to()
	if end := min(to+to-from, f.expected); end > begin {
		more := f.residency(begin, end)
		if more.missing() {
			f.fetch(begin, scratch[:min(int64(len(scratch)), end-begin)])
		}
		ahead.cached = append(ahead.cached, more.cached...)
	}
	f.ahead = ahead
	return now
}

// fetch has the kernel read, while we go on.
func (f *File) fetch(off int64, scratch []byte) {
	if f.kernel.Load() {
		// It reads what is missing, in the background, and knows that it is to be dropped once it was read.
		if _, ok, _ := f.readUncached(scratch, off, unix.RWF_NOWAIT); ok {
			return
		}
		f.kernel.Store(false)
	}
	f.advise(off, int64(len(scratch)), unix.FADV_WILLNEED)
}

// drop drops the pages that were not cached before. What the server has changed since, or mapped, stays.
func (f *File) drop(p pages) {
	for from, n := range p.runsMissing() {
		f.advise(from, n, unix.FADV_DONTNEED)
	}
}

func (f *File) advise(off, n int64, advice int) {
	if conn, err := f.f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), off, n, advice) })
	}
}
