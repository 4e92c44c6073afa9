package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Zero makes a range of a file zero, which takes no space afterwards where the file system can do that.
func Zero(f *os.File, off, n int64) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var punched error
	if err := c.Control(func(fd uintptr) {
		for {
			punched = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
			if punched != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	if punched == nil {
		return nil
	}
	return writeZeros(f, off, n)
}
