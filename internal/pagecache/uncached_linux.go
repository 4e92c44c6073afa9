package pagecache

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// dontCache is RWF_DONTCACHE of linux/fs.h.
const dontCache = 0x80

// readUncached has the kernel read, and drop what it had not cached; ok tells whether it could. With RWF_NOWAIT it
// begins to read what is missing, and returns.
func (f *File) readUncached(p []byte, off int64, flags int) (n int, ok bool, err error) {
	conn, err := f.f.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	err = conn.Control(func(fd uintptr) {
		for n < len(p) {
			k, err := unix.Preadv2(int(fd), [][]byte{p[n:]}, off+int64(n), dontCache|flags)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if ok = err == nil || flags == unix.RWF_NOWAIT && errors.Is(err, unix.EAGAIN); !ok || k <= 0 {
				return
			}
			n += k
		}
	})
	if err != nil {
		return 0, false, err
	}
	if n < len(p) {
		return n, ok, io.EOF
	}
	return n, ok, nil
}
