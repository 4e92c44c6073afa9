package durable

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is mounted below a root is a file system of its own, which has to be synced as well, as /proc is.
func TestSyncTreeKnowsMounts(t *testing.T) {
	device := func(dir string) uint64 {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		s, ok := info.Sys().(*syscall.Stat_t)
		require.True(t, ok)
		return uint64(s.Dev) //nolint:unconvert // of another size elsewhere
	}
	require.NotEqual(t, device("/"), device("/proc"))
	root, err := os.OpenRoot("/")
	require.NoError(t, err)
	defer root.Close()
	synced := map[uint64]bool{device("/"): true} // as if: it may be large
	for _, dir := range []string{"etc", "proc", "proc"} {
		require.NoError(t, syncOnce(root, dir, synced))
	}
	require.Contains(t, synced, device("/proc"))
}
