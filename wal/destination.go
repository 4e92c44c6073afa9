package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/pgcairn/pgcairn/internal/durable"
)

// destination is where a file is fetched to.
type destination struct {
	// fill has a function write the file.
	fill func(write func(io.Writer) error) error
	// take makes a file that was fetched ahead the destination's content, and removes it. Nothing was done when it fails
	// with errTaken: another process was faster.
	take func(f *aheadFile) error
}

var errTaken = errors.New("another process has taken it")

// toPath puts a file in place under a name. It is not synced: see [Prefetcher.Fetch].
func toPath(path string) destination {
	fill := func(write func(io.Writer) error) error { return durable.WriteUnsynced(path, 0o600, write) }
	return destination{fill: fill, take: func(f *aheadFile) error {
		err := os.Rename(f.path, path)
		if err == nil {
			durable.StartWriteback(f.f, 0, int64(f.segment.Size))
			return nil
		}
		if _, lost := os.Lstat(f.path); errors.Is(lost, fs.ErrNotExist) {
			return errTaken
		}
		// The other directory is on another file system, or will not do at all.
		err = fill(func(w io.Writer) error {
			_, err := io.Copy(w, f.f)
			return err
		})
		if err == nil {
			_ = os.Remove(f.path)
		}
		return err
	}}
}

// intoFile fills a file that is open.
func intoFile(dst *os.File) destination {
	return destination{
		fill: func(write func(io.Writer) error) error { return write(io.NewOffsetWriter(dst, 0)) },
		take: func(f *aheadFile) error {
			if _, err := io.Copy(dst, f.f); err != nil {
				return fmt.Errorf("copy %s: %w", f.path, err)
			}
			_ = os.Remove(f.path)
			return nil
		},
	}
}
