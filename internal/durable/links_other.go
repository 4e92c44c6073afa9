//go:build !unix

package durable

import "io/fs"

// Links is how many names a file has, where that can be told.
func Links(fs.FileInfo) uint64 { return 1 }
