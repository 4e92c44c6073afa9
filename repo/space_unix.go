//go:build linux || darwin

package repo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func (d *dirStore) space() (Space, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return Space{}, fmt.Errorf("repo: space of a directory: %w", err)
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return Space{}, fmt.Errorf("repo: space of a directory: %w", err)
	}
	block := uint64(s.Bsize)
	return Space{Free: int64(s.Bavail * block), Total: int64(s.Blocks * block)}, nil
}
