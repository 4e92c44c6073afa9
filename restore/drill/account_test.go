package drill_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/stretchr/testify/require"
)

// TestGivenAwayFromBelow: who is given a directory can change what is in it, so nothing in it may remain to be given.
func TestGivenAwayFromBelow(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data", "base", "5"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "base", "5", "1259"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "data", "link")))
	var order []string
	require.NoError(t, drill.Upwards(filepath.Join(dir, "data"), func(path string) error {
		rel, err := filepath.Rel(dir, path)
		order = append(order, rel)
		return err
	}))
	require.Equal(t, []string{"data/base/5/1259", "data/base/5", "data/base", "data/link", "data"}, order)
}
