//go:build !linux

package wal

import (
	"io/fs"
	"time"
)

func fileState(fs.FileInfo) string { return "" }

func changed(info fs.FileInfo) time.Time { return info.ModTime() }
