//go:build unix

package durable

import (
	"io/fs"
	"syscall"
)

// Links is how many names a file has.
func Links(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Nlink) //nolint:unconvert // of another size elsewhere
	}
	return 1
}
