package repo

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// makeRoot makes the directory at dir, and those above it, and syncs the name of each that it made.
func makeRoot(dir string) error {
	switch _, err := os.Stat(dir); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeRoot(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	return syncClose(f)
}

// makeDir makes the directory dir and those above it, and syncs their names.
func (d *dirStore) makeDir(dir string) error {
	d.mu.Lock()
	for above := dir; above != "."; above = path.Dir(above) {
		delete(d.anchored, above)
	}
	d.mu.Unlock()
	if err := d.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return d.anchor(dir, time.Time{})
}

// settled is how long ago the last name must have been made in a directory for it to be taken as synced. Whoever makes
// one syncs it in the next moment; should he be killed before, the kernel writes it out within a minute.
const settled = 15 * time.Minute

// anchor makes sure that the names of dir and of the directories above it are on disk, whoever made them: another
// process that has made one a moment ago may not have synced it yet. What has not changed since the time old needs no
// sync. It asks once for each directory in the life of the Store.
func (d *dirStore) anchor(dir string, old time.Time) error {
	if dir == "." || d.isAnchored(dir) {
		return nil
	}
	parent := path.Dir(dir)
	if err := d.anchor(parent, old); err != nil {
		return err
	}
	fi, err := d.root.Stat(parent)
	if err != nil {
		return err
	}
	if fi.ModTime().After(old) {
		if err := d.syncDir(parent); err != nil {
			return err
		}
	}
	d.mu.Lock()
	d.anchored[dir] = true
	d.mu.Unlock()
	return nil
}

func (d *dirStore) isAnchored(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.anchored[dir]
}

// syncDir syncs the names in dir.
func (d *dirStore) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	return syncClose(f)
}

func syncClose(f *os.File) error {
	err := f.Sync()
	return errors.Join(err, f.Close())
}
