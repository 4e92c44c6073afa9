package repo

import (
	"os"
	"path"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/internal/durable"
)

// leftover is how long ago a temp file must have been written to last before it may be removed. The lock that a living
// writer holds protects it by itself; the age protects it also where locks do not reach other hosts, as on NFS mounted
// with local locks.
const leftover = 15 * time.Minute

// sweep removes what killed writers have left in dir. It searches each directory once in the life of the Store, which
// costs one reading of it: a process that archives one segment and ends reads the names of at most 256 others. Failures
// cost space and nothing else, so they are left to the next sweep.
func (d *dirStore) sweep(dir string) {
	d.mu.Lock()
	swept := d.swept[dir]
	d.swept[dir] = true
	d.mu.Unlock()
	if swept {
		return
	}
	f, err := d.root.Open(dir)
	if err != nil {
		return
	}
	names, err := f.Readdirnames(-1)
	_ = f.Close()
	if err != nil {
		return
	}
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) {
			d.removeLeftover(path.Join(dir, name))
		}
	}
}

// removeLeftover removes a temp file unless a writer still has it. Whoever holds the lock owns the file, see claim.
func (d *dirStore) removeLeftover(temp string) {
	fi, err := d.root.Lstat(temp)
	if err != nil || !fi.Mode().IsRegular() || d.now().Sub(fi.ModTime()) < leftover {
		return
	}
	f, err := d.root.OpenFile(temp, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if locked, err := durable.TryLock(f); err == nil && locked {
		_ = d.root.Remove(temp)
	}
}
