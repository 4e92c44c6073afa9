package wal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// goldenDir holds two repositories as they were once written: archives of the same files of a real server, one plain and
// one encrypted to identity.txt, and the SHA-256 of each file in sums.txt.
const goldenDir = "testdata/golden"

func goldenOptions(t *testing.T, kind string) *repo.Options {
	t.Helper()
	if kind == "plain" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(goldenDir, "identity.txt"))
	require.NoError(t, err)
	return &repo.Options{Cipher: cipher(t, strings.TrimSpace(string(b)))}
}

func TestGoldenArchives(t *testing.T) {
	if *update {
		makeGolden(t)
	}
	text, err := os.ReadFile(filepath.Join(goldenDir, "sums.txt"))
	require.NoError(t, err)
	kindsSeen := map[wal.Kind]int{}
	for _, kind := range kinds {
		dir := filepath.Join(t.TempDir(), kind)
		require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join(goldenDir, kind))))
		store, err := repo.OpenDir(dir, &repo.DirOptions{MustExist: true})
		require.NoError(t, err)
		a, err := reopenArchive(t, store, goldenOptions(t, kind))
		require.NoError(t, err)
		sys, err := a.System(t.Context())
		require.NoError(t, err)
		require.Equal(t, uint32(wal.MinSegmentSize), sys.SegmentSize)
		for line := range strings.Lines(string(text)) {
			sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
			require.True(t, ok, line)
			b := read(t, a, name)
			got := sha256.Sum256(b)
			require.Equal(t, sum, hex.EncodeToString(got[:]), "%s, %s", kind, name)
			n := parseName(t, name)
			kindsSeen[n.Kind]++
			if n.Kind == wal.KindSegment {
				h, err := wal.ReadHeader(bytes.NewReader(b))
				require.NoError(t, err)
				require.Equal(t, sys.ID, h.SystemID)
			}
			require.NoError(t, push(t, a, name, b), "the same content is still the same")
			require.Less(t, len(readObject(t, store, wal.Key(sys, n))), 64<<10)
		}
		require.Len(t, objects(t, store, "wal/"), strings.Count(string(text), "\n"))
		c, err := a.Coverage(t.Context())
		require.NoError(t, err)
		h, ok := c.History(2)
		require.True(t, ok)
		require.Len(t, h.Forks, 1)
	}
	require.NotZero(t, kindsSeen[wal.KindSegment])
	require.NotZero(t, kindsSeen[wal.KindHistory])
}

// makeGolden makes the archives anew, from a server that has little to write and is then promoted.
func makeGolden(t *testing.T) {
	t.Helper()
	archive := pgtest.Dir(t)
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
		"archive_mode": "on", "archive_command": "cp %p " + archive + "/%f", "autovacuum": "off", "full_page_writes": "off",
	}})
	c.Exec(t, "SELECT pg_switch_wal()", "CREATE TABLE golden (id int)", "SELECT pg_switch_wal()", "INSERT INTO golden VALUES (1)", "SELECT pg_switch_wal()")
	promote(t, c)
	c.Exec(t, "SELECT pg_switch_wal()")
	c.Stop(t)

	require.NoError(t, os.RemoveAll(goldenDir))
	require.NoError(t, os.MkdirAll(goldenDir, 0o755))
	place(t, goldenDir, "identity.txt", []byte(keys().identity+"\n"))
	sums := map[string]string{}
	for _, kind := range kinds {
		store, err := repo.OpenDir(filepath.Join(goldenDir, kind), nil)
		require.NoError(t, err)
		a := openArchive(t, store, goldenOptions(t, kind))
		files := smallest(t, archive)
		for _, name := range slices.Sorted(maps.Keys(files)) { // a segment comes first, and claims the repository
			b := files[name]
			require.NoError(t, push(t, a, name, b))
			sum := sha256.Sum256(b)
			sums[name] = hex.EncodeToString(sum[:])
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&text, "%s  %s\n", sums[name], name)
	}
	place(t, goldenDir, "sums.txt", []byte(text.String()))
}

// smallest returns, of the files that a server has archived, the history and the segment with the most zeros.
func smallest(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(archive)
	require.NoError(t, err)
	files := map[string][]byte{}
	best, zeros := "", -1
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(archive, e.Name()))
		require.NoError(t, err)
		switch z := bytes.Count(b, []byte{0}); parseName(t, e.Name()).Kind {
		case wal.KindHistory:
			files[e.Name()] = b
		case wal.KindSegment:
			if z > zeros {
				delete(files, best)
				best, zeros = e.Name(), z
				files[best] = b
			}
		}
	}
	return files
}
