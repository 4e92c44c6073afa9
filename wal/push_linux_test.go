package wal_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// TestPushDoesNotWaitForAPipe whose other end nobody opens.
func TestPushDoesNotWaitForAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), segment(5).Name())
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	var e *wal.SegmentError
	require.ErrorAs(t, openArchive(t, repotest.Mem(nil), nil).Push(t.Context(), path), &e)
}
