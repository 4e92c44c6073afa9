package pagecache

import (
	"iter"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

var pageSize = int64(os.Getpagesize()) //nolint:gochecknoglobals // a constant

// pages are pages of a file that follow each other.
type pages struct {
	from   int64  // offset of the first
	cached []byte // of each, in bit 0: whether it was cached
}

func (p pages) to() int64 { return p.from + int64(len(p.cached))*pageSize }

// cut returns the pages before from, those from there to to, and those behind.
func (p pages) cut(from, to int64) (before, within, behind pages) {
	at := func(off int64) int { return int(min(max(off-p.from, 0)/pageSize, int64(len(p.cached)))) }
	i, j := at(from), at(to)
	before = pages{from: p.from, cached: p.cached[:i]}
	within = pages{from: p.from + int64(i)*pageSize, cached: p.cached[i:j]}
	behind = pages{from: p.from + int64(j)*pageSize, cached: slices.Clone(p.cached[j:])}
	if behind.from > to { // a gap between: they are not what comes next
		before, behind = pages{from: p.from, cached: p.cached}, pages{}
	}
	return before, within, behind
}

// override takes over what other, a part of them, tells.
func (p pages) override(other pages) {
	if len(other.cached) > 0 {
		copy(p.cached[(other.from-p.from)/pageSize:], other.cached)
	}
}

func (p pages) missing() bool {
	for range p.runsMissing() {
		return true
	}
	return false
}

// runsMissing yields offset and length of what was not cached.
func (p pages) runsMissing() iter.Seq2[int64, int64] {
	return func(yield func(from, n int64) bool) {
		for i := 0; i < len(p.cached); {
			j := i
			for j < len(p.cached) && p.cached[j]&1 == 0 {
				j++
			}
			if j > i && !yield(p.from+int64(i)*pageSize, int64(j-i)*pageSize) {
				return
			}
			i = j + 1
		}
	}
}

// residency tells which pages of a range are cached; all, when that cannot be known.
func (f *File) residency(from, to int64) pages {
	p := pages{from: from, cached: make([]byte, (to-from+pageSize-1)/pageSize)}
	known := false
	if conn, err := f.f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) {
			// Nothing is read through the mapping, so that the file may shrink meanwhile.
			m, err := unix.Mmap(int(fd), from, len(p.cached)*int(pageSize), unix.PROT_NONE, unix.MAP_SHARED)
			if err != nil {
				return
			}
			_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&p.cached[0])))
			known = errno == 0
			_ = unix.Munmap(m)
		})
	}
	if !known {
		for i := range p.cached {
			p.cached[i] = 1
		}
	}
	return p
}
