package repo

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLinkFailed(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		err := linkFailed(t.Context(), "a/b", &os.LinkError{Op: "linkat", Err: errno})
		var hard *HardLinkError
		require.ErrorAs(t, err, &hard)
		require.Equal(t, "a/b", hard.Key)
		require.ErrorIs(t, err, errno)
		require.ErrorContains(t, err, "no hard links")
	}
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EACCES, syscall.ENOENT, syscall.EROFS} {
		err := linkFailed(t.Context(), "a/b", &os.LinkError{Op: "linkat", Err: errno})
		var hard *HardLinkError
		require.NotErrorAs(t, err, &hard)
		require.ErrorIs(t, err, errno)
		require.NotErrorIs(t, err, fs.ErrNotExist)
	}
}
