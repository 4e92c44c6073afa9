//go:build !linux

package process

import (
	"errors"
	"os"
	"syscall"
)

// Self names this process; without a host, so that nobody takes it for gone.
func Self() ID { return ID{PID: os.Getpid()} }

// startOf tells no more than that there is no such process.
func startOf(pid int) (string, error) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return "", errors.ErrUnsupported
	}
	defer func() { _ = p.Release() }()
	if errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		return "", nil
	}
	return "", errors.ErrUnsupported
}

// WorkDir cannot be told here.
func WorkDir(int) (string, os.FileInfo, error) { return "", nil, errors.ErrUnsupported }

// WorksIn cannot be told here.
func WorksIn(os.FileInfo, ...string) int { return 0 }

// Attached cannot be told here.
func Attached(_, _ uint64) bool { return false }
