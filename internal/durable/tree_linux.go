package durable

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// SyncTree puts all files and names below a root on disk. dirs are directories below it where other file systems may be
// mounted. On Linux this is one syncfs(2) for each, which since 5.8 also reports what failed to be written before; on what
// is not a whole file system it may wait for more than the tree.
func SyncTree(root *os.Root, dirs ...string) error {
	synced := map[uint64]bool{} // by device
	for _, dir := range append([]string{"."}, dirs...) {
		if err := syncOnce(root, dir, synced); err != nil {
			return err
		}
	}
	return nil
}

func syncOnce(root *os.Root, dir string, synced map[uint64]bool) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		dev := uint64(s.Dev) //nolint:unconvert // of another size elsewhere
		if synced[dev] {
			return nil
		}
		synced[dev] = true
	}
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
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
