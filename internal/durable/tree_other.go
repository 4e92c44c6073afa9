//go:build !linux

package durable

import (
	"errors"
	"io/fs"
	"os"
)

// SyncTree puts all files and names below a root on disk, whatever file systems are mounted there.
func SyncTree(root *os.Root, _ ...string) error {
	return fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		f, err := root.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// StartWriteback is a hint that is not given here.
func StartWriteback(*os.File, int64, int64) {}
