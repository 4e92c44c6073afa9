package repo

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// What the system does not permit is told from what has failed, through all wraps.
func TestDirRefusal(t *testing.T) {
	t.Parallel()
	for errno, want := range map[syscall.Errno]bool{
		syscall.EPERM: true, syscall.EACCES: true, syscall.EROFS: true,
		syscall.EIO: false, syscall.ENOSPC: false, syscall.ESTALE: false, syscall.ENOENT: false,
	} {
		err := &os.PathError{Op: "unlinkat", Path: "a", Err: errno}
		failed := fmt.Errorf("wrapped: %w", objerr.Failed(t.Context(), "delete", "a", refusal(err)))
		assert.Equal(t, want, errors.Is(failed, ErrRefused), "%v", failed)
		require.ErrorAs(t, failed, new(*os.PathError))
	}
}
