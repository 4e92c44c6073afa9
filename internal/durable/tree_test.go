package durable_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/durable"
)

func TestSyncTree(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", "b", "file"), []byte("x"), 0o600))
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(dir, "a", "link")))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	require.NoError(t, durable.SyncTree(root))
	require.NoError(t, durable.SyncTree(root, "a", "a/b"))
	require.NoError(t, root.Close())
	require.ErrorIs(t, durable.SyncTree(root), os.ErrClosed)
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, durable.SyncDir(dir))
	require.ErrorIs(t, durable.SyncDir(filepath.Join(dir, "no")), fs.ErrNotExist)
}

func TestStartWritebackChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = f.WriteString("content")
	require.NoError(t, err)
	durable.StartWriteback(f, 0, 7)
	durable.StartWriteback(f, 100, -1)
	require.NoError(t, f.Close())
	durable.StartWriteback(f, 0, 7)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "content", string(b))
}
