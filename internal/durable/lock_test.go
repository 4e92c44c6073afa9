package durable_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/durable"
)

func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	open := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	try := func(f *os.File) bool {
		t.Helper()
		locked, err := durable.TryLock(f)
		require.NoError(t, err)
		return locked
	}
	one, other := open(), open()
	require.True(t, try(one))
	require.True(t, try(one), "its own lock is not in its way")
	require.False(t, try(other))
	require.NoError(t, one.Close())
	require.True(t, try(other), "closing gives it free")
	require.NoError(t, other.Close())
	_, err := durable.TryLock(other)
	require.Error(t, err)

	c := startChild(t, "lock", path)
	require.Equal(t, "true", c.line(t))
	third := open()
	require.False(t, try(third))
	c.kill()
	require.True(t, try(third), "so does death")
}
