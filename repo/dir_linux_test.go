package repo_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// readOnly makes a directory tree read-only for the rest of the test, also for root where mounting is permitted.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		readOnlyMode(t, dir)
		return
	}
	mount(t, dir, dir, "", syscall.MS_BIND, "")
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
}

// TestDirFileSizeLimit tries the like where mounting is not permitted.
func TestDirFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tmpfs")
	require.NoError(t, os.Mkdir(dir, 0o700))
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=1m")
	requireFull(t, openDir(t, dir, nil), syscall.ENOSPC)
	require.Empty(t, temps(t, dir))
}

// mount mounts a file system at dir for the rest of the test.
func mount(t *testing.T, what, dir, kind string, flags uintptr, data string) {
	t.Helper()
	err := syscall.Mount(what, dir, kind, flags, data)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("not permitted to mount")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
}
