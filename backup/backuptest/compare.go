package backuptest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Compare tells how a restored data directory differs from the files of the cluster as they are now. It leaves out what
// a restore writes itself: WAL, pg_control, backup_label, backup_manifest, recovery.signal or standby.signal, and the
// configuration files postgresql.conf and postgresql.auto.conf. Tablespaces are followed.
func (c *Cluster) Compare(dir string) error {
	var wrong []error
	want := c.Files()
	for _, p := range want {
		if written(p) {
			continue
		}
		b, err := c.Read(p)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(p)))
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("backuptest: %w", err))
		case !bytes.Equal(got, b):
			wrong = append(wrong, fmt.Errorf("backuptest: %s has other content: %d bytes, want %d", p, len(got), len(b)))
		}
	}
	extra, err := others(dir, want)
	return errors.Join(append(wrong, extra, err)...)
}

// written tells whether a path below the data directory is one that a restore writes itself.
func written(p string) bool {
	switch p {
	case "global/pg_control", "backup_label", "backup_manifest", "recovery.signal", "standby.signal",
		"postgresql.conf", "postgresql.auto.conf":
		return true
	}
	return strings.HasPrefix(p, "pg_wal/")
}

// others tells what a restored directory has besides.
func others(dir string, want []string) (extra, err error) {
	roots := []string{"."}
	spaces, err := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
	for _, s := range spaces {
		roots = append(roots, "pg_tblspc/"+s.Name()+"/.") // WalkDir does not follow links
	}
	var found []error
	for _, root := range roots {
		err = errors.Join(err, fs.WalkDir(os.DirFS(filepath.Join(dir, root)), ".", func(p string, e fs.DirEntry, err error) error {
			p = filepath.ToSlash(filepath.Join(root, p))
			if err != nil || !e.Type().IsRegular() || written(p) {
				return err
			}
			if _, ok := slices.BinarySearch(want, p); !ok {
				found = append(found, fmt.Errorf("backuptest: %s is not of the cluster", p))
			}
			return nil
		}))
	}
	return errors.Join(found...), err
}
