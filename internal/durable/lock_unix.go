//go:build unix && !aix && !solaris && !illumos

package durable

import (
	"errors"
	"os"
	"syscall"
)

// TryLock locks f until it is closed, also by the death of the process, unless another open file holds the lock. An
// error means that there are no locks here.
func TryLock(f *os.File) (locked bool, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var lockErr error
	err = c.Control(func(fd uintptr) { lockErr = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(lockErr, syscall.EWOULDBLOCK) {
		return false, nil
	}
	err = errors.Join(err, lockErr)
	return err == nil, err
}
