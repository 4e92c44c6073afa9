//go:build !linux

package durable

import "os"

// Zero makes a range of a file zero.
func Zero(f *os.File, off, n int64) error { return writeZeros(f, off, n) }
