package repo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/pgcairn/pgcairn/internal/objerr"

	"github.com/pgcairn/pgcairn/internal/durable"
)

// HardLinkError means that the file system under an [OpenDir] store makes no hard links. There is no other way to
// create a file exclusively, whole, and on disk, so the store cannot be used there.
type HardLinkError struct {
	Key string // of the object that was not created
	Err error  // what link(2) failed with
}

func (e *HardLinkError) Error() string {
	return "create " + e.Key + ": the file system makes no hard links, without which no object can be created " +
		"exclusively: put the repository on another one: " + e.Err.Error()
}

func (e *HardLinkError) Unwrap() error { return e.Err }

// tries bounds what is done again because another process was in the way. It takes a fresh coincidence each time.
const tries = 10

// chunk is how many bytes are written between two looks at the context.
const chunk = 1 << 20

func (d *dirStore) Create(ctx context.Context, key string) (Writer, error) {
	const op = "create"
	if err := checkKey(key); err != nil {
		return nil, err
	}
	switch _, err := d.lookup(ctx, op, key); {
	case err == nil:
		// Saves the caller writing it all in vain, unless it is deleted just now.
		if err := d.exists(ctx, op, key); !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	dir := path.Dir(key)
	f, temp, err := d.createTemp(dir)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, &KeyError{Key: key, Reason: "lies under another object as if that were a folder"}
	}
	if err != nil {
		return nil, objerr.Failed(ctx, op, key, err)
	}
	d.sweep(dir)
	return &dirWriter{ctx: ctx, d: d, key: key, temp: temp, f: f, out: durable.NewWriter(f)}, nil
}

// createTemp creates a file in dir under a name that is never listed, and locks it for as long as it is open.
func (d *dirStore) createTemp(dir string) (*os.File, string, error) {
	var err error
	for range tries {
		temp := path.Join(dir, tempPrefix+rand.Text())
		var f *os.File
		f, err = d.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			if err = d.makeDir(dir); err != nil {
				return nil, "", err
			}
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if err = d.claim(f, temp); err == nil {
			return f, temp, nil
		}
		_ = f.Close()
		_ = d.root.Remove(temp)
	}
	return nil, "", err
}

// claim locks a temp file. Between its creation and its lock a sweep may have taken it for a leftover; then it is the
// sweep's. A file system that has no locks is no obstacle, since a sweep leaves alone what it cannot lock.
func (d *dirStore) claim(f *os.File, temp string) error {
	locked, err := durable.TryLock(f)
	if err == nil && !locked {
		return errors.New("a temp file was locked by another process")
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := d.root.Lstat(temp)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return errors.New("a temp file was replaced by another process")
	}
	return nil
}

// exists is what Create and Commit fail with when there is a file at key. Who made it may not have synced it yet, or
// may have died before: it is synced here, since our caller will rely on it. An error that does not match fs.ErrExist
// means that this failed; one that matches fs.ErrNotExist, that the file is gone.
func (d *dirStore) exists(ctx context.Context, op, key string) error {
	if _, err := d.lookup(ctx, op, key); err != nil {
		return err
	}
	f, err := d.root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return objerr.Missing(op, key, nil)
	}
	if err == nil {
		err = syncClose(f)
	}
	if err == nil {
		err = d.syncName(key)
	}
	if err != nil {
		return objerr.Failed(ctx, op, key, fmt.Errorf("sync the object that exists: %w", err))
	}
	return objerr.Taken(op, key, nil)
}

// syncName syncs the name of a file, up to the root.
func (d *dirStore) syncName(key string) error {
	dir := path.Dir(key)
	if err := d.syncDir(dir); err != nil {
		return err
	}
	return d.anchor(dir, d.now().Add(-settled))
}

// dirWriter writes an object to a temp file beside where it will be.
type dirWriter struct {
	ctx  context.Context
	d    *dirStore
	key  string
	temp string   // empty once it is removed
	f    *os.File // nil once committed or closed
	out  *durable.Writer
	err  error // of the first Write that failed
}

func (w *dirWriter) Write(p []byte) (n int, err error) {
	if w.f == nil {
		return 0, objerr.Closed("write", w.key)
	}
	for n < len(p) && w.err == nil {
		var k int
		if err = w.ctx.Err(); err == nil {
			k, err = w.out.Write(p[n:min(len(p), n+chunk)])
		}
		n += k
		if err != nil {
			w.err = objerr.Failed(w.ctx, "write", w.key, err)
		}
	}
	return n, w.err
}

func (w *dirWriter) Commit() (Info, error) {
	if w.f == nil {
		return Info{}, objerr.Closed("commit", w.key)
	}
	info, err := w.commit()
	_ = w.Close() // at worst a temp file stays, as if we had been killed now
	return info, err
}

func (w *dirWriter) commit() (Info, error) {
	const op = "commit"
	if w.err != nil {
		return Info{}, w.err
	}
	err := w.ctx.Err()
	if err == nil {
		err = w.f.Sync()
	}
	if err == nil {
		err = w.ctx.Err() // that may have taken a while
	}
	if err != nil {
		return Info{}, objerr.Failed(w.ctx, op, w.key, err)
	}
	fi, err := w.f.Stat()
	if err != nil {
		return Info{}, objerr.Failed(w.ctx, op, w.key, err)
	}
	if err := w.link(fi); err != nil {
		return Info{}, err
	}
	if w.d.root.Remove(w.temp) == nil { // before the directory is synced, which then covers both names
		w.temp = ""
	}
	if err := w.d.syncName(w.key); err != nil {
		return Info{}, objerr.Failed(w.ctx, op, w.key, err)
	}
	return fileInfo(w.key, fi), nil
}

// link gives the temp file, which fi describes, its name.
func (w *dirWriter) link(fi fs.FileInfo) error {
	const op = "commit"
	for range tries {
		err := w.d.root.Link(w.temp, w.key)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrExist):
			return linkFailed(w.ctx, w.key, err)
		}
		there, err := w.d.root.Lstat(w.key)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // deleted meanwhile
		case err != nil:
			return objerr.Failed(w.ctx, op, w.key, err)
		case os.SameFile(fi, there):
			return nil // NFS has done it, lost the answer, and done it again
		case there.IsDir():
			return &KeyError{Key: w.key, Reason: "is a folder of other objects"}
		}
		if err := w.d.exists(w.ctx, op, w.key); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return objerr.Failed(w.ctx, op, w.key, errors.New("is created and deleted all the time"))
}

// linkFailed tells file systems without hard links from other failures of link(2). EPERM is what Linux documents.
func linkFailed(ctx context.Context, key string, err error) error {
	for _, none := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		if errors.Is(err, none) {
			return &HardLinkError{Key: key, Err: err}
		}
	}
	return objerr.Failed(ctx, "commit", key, err)
}

func (w *dirWriter) Close() error {
	if w.f == nil {
		return nil
	}
	var err error
	if w.temp != "" {
		err = w.d.root.Remove(w.temp)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, w.f.Close()) // which unlocks it
	w.f = nil
	if err != nil {
		return objerr.Failed(w.ctx, "close", w.key, err)
	}
	return nil
}
