//go:build !linux

package testserver

import "syscall"

// endWithParent is for Linux only: elsewhere a server may survive tests that die without cleaning up.
func endWithParent(*syscall.SysProcAttr) {}
