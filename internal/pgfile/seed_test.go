package pgfile_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "take the seeds of testdata/seed anew from the servers")

const seedDir = "testdata/seed"

// seeds returns files that were taken from real servers, by name. That there are none is a failure.
func seeds(t testing.TB, kind, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(seedDir, kind, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, paths, "no seed matches %s/%s", kind, pattern)
	all := map[string][]byte{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		all[filepath.Base(path)] = b
	}
	return all
}

// keepSeed writes a seed when the tests run with -update.
func keepSeed(t *testing.T, kind, name string, b []byte) {
	t.Helper()
	if !*update {
		return
	}
	dir := filepath.Join(seedDir, kind)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
}
