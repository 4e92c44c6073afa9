package wal_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

// TestStockToolsReadTheArchive takes an archive apart with the programs age and zstd of the distribution and nothing
// else, as somebody would who has lost pgcairn.
func TestStockToolsReadTheArchive(t *testing.T) {
	for _, tool := range []string{"age", "zstd"} {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "run make tools")
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			a, do := openDir(t, kind)
			files := map[string][]byte{segment(1).Name(): noisy(segment(1))}
			for _, number := range []uint64{2, 3} {
				s := wal.Segment{Timeline: 1, Number: number, Size: wal.MinSegmentSize}
				files[s.Name()] = content(s)
			}
			for name, b := range files {
				require.NoError(t, push(t, a, name, b))
			}
			require.NoError(t, push(t, a, "00000002.history", history))
			files["00000002.history"] = history

			decrypt := ""
			if kind == "encrypted" {
				identity := place(t, do.Dir, "identity.txt", []byte(keys().identity+"\n"))
				wrapped, err := filepath.Glob(filepath.Join(do.Repo, "keys", "*.age"))
				require.NoError(t, err)
				require.Len(t, wrapped, 1)
				dataKey := place(t, do.Dir, "data.key", shell(t, "age -d -i '"+identity+"' '"+wrapped[0]+"'"))
				decrypt = "age -d -i '" + dataKey + "' | "
			}
			for name, want := range files {
				object := filepath.Join(do.Repo, filepath.FromSlash(wal.Key(cluster, parseName(t, name))))
				got := shell(t, decrypt+"zstd -d -c", object)
				require.True(t, bytes.Equal(want, got), name)
			}
		})
	}
}

// shell runs a pipeline, from a file where one is given, and returns what it prints.
func shell(t *testing.T, pipeline string, stdin ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail; "+pipeline)
	for _, path := range stdin {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		cmd.Stdin = f
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s", pipeline, stderr.String())
	return out
}
