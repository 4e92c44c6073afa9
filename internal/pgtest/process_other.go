//go:build !linux

package pgtest

import "syscall"

// endWithParent is for Linux only: elsewhere a server may survive tests that die without cleaning up.
func endWithParent(*syscall.SysProcAttr) {}

// descendants is for Linux only: elsewhere children notice by themselves that their server has died.
func descendants(int) []int { return nil }

func alive(int) bool { return false }
