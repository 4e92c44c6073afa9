//go:build !cloud

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pgcairn/pgcairn/repo"
)

// openBucket goes on as the companion, which lies beside this program. The SDKs take 12 ms to start and 50 MB of
// disk, which archiving to a directory, a process for each segment, should not have to pay.
func openBucket(context.Context, *url.URL, string) (repo.Store, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", companion, err)
	}
	path := filepath.Join(filepath.Dir(self), companion)
	err = syscall.Exec(path, os.Args, os.Environ()) //nolint:gosec // our own program, with our own arguments
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("buckets take the program %s beside this one: make build makes both", companion)
	}
	return nil, fmt.Errorf("run %s: %w", path, err)
}

// isRefused matches what only buckets answer.
func isRefused(error) bool { return false }
