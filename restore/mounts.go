package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// MountError means that something is mounted within a directory to restore over, at a place that the backup has nothing
// for. It would be in the way when what does not belong there is removed. Nothing was changed.
type MountError struct {
	Directory  string
	MountPoint string
}

func (e *MountError) Error() string {
	return fmt.Sprintf("restore: a restore over %s would have to remove %s, where something is mounted: unmount it, or choose another directory",
		e.Directory, e.MountPoint)
}

// requireUnmounted makes sure that nothing is mounted where a sweep removes: it would fail there, with the rest gone.
func (s *sweeper) requireUnmounted() error {
	points, err := mountPoints()
	if err != nil {
		return fmt.Errorf("restore: find out what is mounted: %w", err)
	}
	swept := map[string]string{".": s.d.path} // directories by their paths below the data directory
	for link := range s.d.outside {
		swept[link] = s.links[link]
	}
	for base, dir := range swept {
		actual, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		for _, point := range points {
			rel, err := filepath.Rel(actual, point)
			if err != nil || rel == "." || !filepath.IsLocal(rel) {
				continue
			}
			info, err := os.Lstat(point)
			if errors.Is(err, fs.ErrNotExist) { // it was removed in another namespace
				continue
			}
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			if !s.stays(base, filepath.ToSlash(rel), info.IsDir()) {
				return &MountError{Directory: dir, MountPoint: point}
			}
		}
	}
	return nil
}

// stays tells whether a sweep leaves what is at a path below one of the directories that it sweeps.
func (s *sweeper) stays(base, rel string, isDir bool) bool {
	names := strings.Split(rel, "/")
	at := base
	for i, name := range names {
		parent := at
		at = path.Join(parent, name)
		switch {
		case s.passes(parent, name):
			return true
		case s.links[at] != "":
			return false
		case i < len(names)-1 || isDir:
			if !s.dirs[at] {
				return false
			}
		default:
			_, found := s.file(at)
			return found || s.keep[at]
		}
	}
	return true
}
