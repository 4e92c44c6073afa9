package durable

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestZero(t *testing.T) {
	t.Parallel()
	for name, zero := range map[string]func(*os.File, int64, int64) error{"as the file system can": Zero, "by writing": writeZeros} {
		path := filepath.Join(t.TempDir(), "file")
		want := bytes.Repeat([]byte("x"), 3<<20)
		require.NoError(t, os.WriteFile(path, want, 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		for _, r := range [][2]int64{{5, 7}, {8192, 8192}, {1<<20 - 1, 1<<20 + 500}} {
			require.NoError(t, zero(f, r[0], r[1]), name)
			clear(want[r[0] : r[0]+r[1]])
		}
		require.NoError(t, f.Close())
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), name)
		require.Error(t, zero(f, 0, 1), "it is closed")
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	links := func() uint64 {
		info, err := os.Lstat(path)
		require.NoError(t, err)
		return Links(info)
	}
	require.Equal(t, uint64(1), links())
	require.NoError(t, os.Link(path, path+"2"))
	require.Equal(t, uint64(2), links())
}
