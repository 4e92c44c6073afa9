//go:build !cloud

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// runCompanion goes on as the companion, which lies beside this program. The SDKs take 12 ms to start and 45 MB of
// disk, which archiving to a directory, a process for each segment, should not have to pay.
func runCompanion() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find %s: %w", companion, err)
	}
	path := filepath.Join(filepath.Dir(self), companion)
	err = syscall.Exec(path, os.Args, os.Environ()) //nolint:gosec // our own program, with our own arguments
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("buckets take the program %s beside this one: make build makes both", companion)
	}
	return fmt.Errorf("run %s: %w", path, err)
}
