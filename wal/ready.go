package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readySuffix marks, in archive_status, a file that PostgreSQL wants archived (pgarch.c).
const readySuffix = ".ready"

func walDir(pgdata string) string    { return filepath.Join(pgdata, "pg_wal") }
func statusDir(pgdata string) string { return filepath.Join(pgdata, "pg_wal", "archive_status") }

// dataDirectory returns the data directory that a file of pg_wal lies in, as the path tells that archive_command is
// given; ok is false when the file lies elsewhere.
func dataDirectory(path string) (pgdata string, ok bool) {
	dir := filepath.Dir(path)
	if filepath.Base(dir) != "pg_wal" {
		return "", false
	}
	info, err := os.Stat(filepath.Join(dir, "archive_status"))
	return filepath.Dir(dir), err == nil && info.IsDir()
}

// inOrderOfNeed compares files as ready_file_comparator of PostgreSQL's pgarch.c does: histories first, since standbys
// wait for them, then by name.
func inOrderOfNeed(a, b Name) int {
	if x, y := a.Kind == KindHistory, b.Kind == KindHistory; x != y {
		if x {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.text, b.text)
}

// readBatch is how many entries of a directory are read at a time.
const readBatch = 1024

// doneSuffix marks a file of which PostgreSQL knows that it is archived.
const doneSuffix = ".done"

// readyFiles returns the most needed files that are ready, up to limit, in order of need, and how many there are in
// all. except is left out, and not counted; so are names that are none of an archive's.
func readyFiles(pgdata string, limit int, except string) (list []Name, total int, err error) {
	dir, err := os.Open(statusDir(pgdata))
	if err != nil {
		return nil, 0, fmt.Errorf("wal: look for files to archive: %w", err)
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(readBatch)
		for _, e := range entries {
			name, ready := strings.CutSuffix(e.Name(), readySuffix)
			n, err := ParseName(name)
			if !ready || err != nil || name == except {
				continue
			}
			total++
			list = append(list, n)
		}
		if len(list) > limit+readBatch {
			list = first(list, limit)
		}
		if errors.Is(err, io.EOF) {
			return first(list, limit), total, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("wal: look for files to archive: %w", err)
		}
	}
}

func first(list []Name, limit int) []Name {
	slices.SortFunc(list, inOrderOfNeed)
	return list[:min(len(list), limit)]
}
