package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncTree puts all files and names below a root on disk. On Linux this is one syncfs(2), which since 5.8 also reports
// what failed to be written before; on what is not a whole file system it may wait for more than the tree.
func SyncTree(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd()))), f.Close())
}

// StartWriteback asks the kernel to begin writing a range to disk, so that syncing will have less to wait for. It is
// a hint and cannot fail.
func StartWriteback(f *os.File, off, n int64) {
	c, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}
