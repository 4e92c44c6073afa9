// Package durable puts files in place so that they are there whole or not at all and, unless said otherwise, on disk.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// tempSuffix is added to a file's name while it is being written. A killed writer leaves one such file, which the next
// takes over.
const tempSuffix = ".pgcairn-tmp"

// ErrBusy means that another process is writing the same file at this moment.
var ErrBusy = errors.New("another process is writing it")

// WriteFile writes a file beside path, syncs it, and renames it to path. When write fails, what was at path is left as it
// was. Whatever happens afterwards, there is the one or the other, whole: that the new one outlives a loss of power takes
// a [SyncDir] besides.
func WriteFile(path string, perm fs.FileMode, write func(io.Writer) error) error {
	return put(path, perm, func(f *os.File) error { return write(NewWriter(f)) }, (*os.File).Sync)
}

// WriteUnsynced is [WriteFile] of what somebody else will sync, or can tell to be whole: processes see the file whole or
// not at all, but after a loss of power it may be there in part. It is being brought to disk meanwhile.
func WriteUnsynced(path string, perm fs.FileMode, write func(io.Writer) error) error {
	return FillUnsynced(path, perm, func(f *os.File) error { return write(NewWriter(f)) })
}

// FillUnsynced is [WriteUnsynced] for one who needs the file itself, and sees to its being brought to disk. It is empty at
// first, and stays open.
func FillUnsynced(path string, perm fs.FileMode, fill func(*os.File) error) error {
	return put(path, perm, fill, func(*os.File) error { return nil })
}

func put(path string, perm fs.FileMode, fill, sync func(*os.File) error) (err error) {
	temp := path + tempSuffix
	f, err := openLocked(temp, perm)
	if err != nil {
		return err
	}
	renamed := false
	defer func() {
		if !renamed {
			_ = os.Remove(temp) // while it is locked, so it is ours
		}
		err = errors.Join(err, f.Close())
	}()
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if err := sync(f); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	renamed = true // temp may be the next writer's now
	return nil
}

// openLocked opens a temp file and locks it, whoever made it.
func openLocked(temp string, perm fs.FileMode) (*os.File, error) {
	for range 10 {
		f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE, perm)
		if err != nil {
			return nil, err
		}
		locked, err := TryLock(f)
		if err == nil && !locked {
			err = ErrBusy
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", temp, err), f.Close())
		}
		// Between opening and locking, another writer may have renamed it into place.
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Lstat(temp); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("lock %s: %w", temp, ErrBusy)
}

// SyncDir syncs the names in a directory.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
