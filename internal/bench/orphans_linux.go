package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes processes that detach themselves from a command, as pgbackrest's asynchronous ones do, children of
// this one when the command ends.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } // it fails for no other argument

// awaitOrphans waits for all of them to end, and returns the CPU they took.
func awaitOrphans() (cpu time.Duration, err error) {
	for {
		var status syscall.WaitStatus
		var u syscall.Rusage
		_, err = syscall.Wait4(-1, &status, 0, &u)
		switch err {
		case nil:
			cpu += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		case syscall.EINTR:
		default:
			return cpu, nil // there are none
		}
	}
}
