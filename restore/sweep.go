package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/durable"
)

// sweeper removes from directories that were used before what does not belong there, and gives what stays its size and
// permissions. It follows no link and leaves none but those that the restore makes, so that nothing that is written
// afterwards can go elsewhere.
type sweeper struct {
	ctx   context.Context //nolint:containedctx // of one call
	d     *destination
	links map[string]string // that belong, and where they lead to
	dirs  map[string]bool   // that belong, below the data directory
	keep  map[string]bool   // files that belong besides the manifest's
}

// sweeper makes one. keep are paths of files that belong there besides the manifest's, if they are there.
func (d *destination) sweeper(ctx context.Context, keep []string) *sweeper {
	s := &sweeper{ctx: ctx, d: d, links: d.mark.links(), dirs: map[string]bool{}, keep: map[string]bool{}}
	for _, dir := range slices.Concat(d.manifest.Directories, ownDirectories) {
		s.belongs(dir)
	}
	for _, f := range d.manifest.FileList {
		s.belongs(path.Dir(f.Path))
	}
	for _, t := range d.manifest.Tablespaces {
		s.belongs(tablespacePath(t)) // unless it is a link
	}
	for _, p := range keep {
		s.keep[p] = true
	}
	return s
}

// all sweeps all directories.
func (s *sweeper) all() error {
	if err := s.directory(s.d.root, "."); err != nil {
		return fmt.Errorf("restore: remove what does not belong: %w", err)
	}
	for link, root := range s.d.outside {
		if err := s.directory(root, link); err != nil {
			return fmt.Errorf("restore: remove what does not belong: %w", err)
		}
	}
	return nil
}

func (s *sweeper) belongs(dir string) {
	for ; dir != "." && !s.dirs[dir]; dir = path.Dir(dir) {
		s.dirs[dir] = true
	}
}

// otherVersion matches the directories of a tablespace, of which every version of PostgreSQL has its own.
var otherVersion = regexp.MustCompile(`^PG_[0-9]+(\.[0-9]+)?_[0-9]+$`)

// directory sweeps a directory: p is its path below the data directory.
func (s *sweeper) directory(root *os.Root, p string) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if s.passes(p, name) {
			continue
		}
		kept, err := s.entry(root, name, path.Join(p, name))
		if err == nil && !kept {
			err = root.RemoveAll(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// passes tells whether an entry of the directory p is left as it is.
func (s *sweeper) passes(p, name string) bool {
	child, tablespace := path.Join(p, name), s.links[p] != "" && p != "pg_wal"
	switch {
	case name == "lost+found", child == markFile: // the former is a file system's, of pg_wal for one
		return true
	default: // of a cluster that was upgraded
		return tablespace && !s.dirs[child] && otherVersion.MatchString(name)
	}
}

// file returns the index of a file of the manifest.
func (s *sweeper) file(p string) (int, bool) {
	return slices.BinarySearchFunc(s.d.manifest.FileList, p, func(f backup.File, p string) int { return strings.Compare(f.Path, p) })
}

// entry sees to one entry of a directory, and tells whether it stays.
func (s *sweeper) entry(root *os.Root, name, p string) (kept bool, err error) {
	info, err := root.Lstat(name)
	if err != nil {
		return false, err
	}
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := root.Readlink(name)
		return err == nil && target == s.links[p], err
	case s.links[p] != "":
		return false, nil
	case info.IsDir() && s.dirs[p]:
		if info.Mode().Perm() != 0o700 {
			if err := root.Chmod(name, 0o700); err != nil {
				return false, err
			}
		}
		sub, err := root.OpenRoot(name)
		if err != nil {
			return false, err
		}
		return true, errors.Join(s.directory(sub, p), sub.Close())
	case !info.Mode().IsRegular(), durable.Links(info) > 1: // its other names are not to change
		return false, nil
	}
	i, found := s.file(p)
	if !found && !s.keep[p] {
		return false, nil
	}
	if info.Mode() != 0o600 {
		if err := root.Chmod(name, 0o600); err != nil {
			return false, err
		}
	}
	if found {
		err = s.resize(root, name, info.Size(), i)
	}
	return true, err
}

// resize gives a file of the manifest, by its index, the size that it is to have.
func (s *sweeper) resize(root *os.Root, name string, has int64, i int) error {
	if want := s.d.manifest.FileList[i].Size; has != want {
		f, err := root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(want), f.Close()); err != nil {
			return err
		}
	}
	s.d.sized[i].Store(true)
	return nil
}
