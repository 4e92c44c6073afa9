package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/process"
)

// NotEmptyError means that a directory to restore into holds something already. Nothing in it was changed.
type NotEmptyError struct {
	Directory string
}

func (e *NotEmptyError) Error() string {
	return "restore: " + e.Directory + " is not empty: choose another directory, or clear it yourself if nothing in it is needed"
}

// BusyError means that another restore is going on in a directory.
type BusyError struct {
	Directory string
}

func (e *BusyError) Error() string { return "restore: another restore is going on in " + e.Directory }

// RunningError means that a server runs in a directory, or that it cannot be ruled out. Nothing in it was changed.
type RunningError struct {
	Directory string
	PID       int    // of the server; 0 when it is not known
	Reason    string // by which it was told
}

func (e *RunningError) Error() string {
	return fmt.Sprintf("restore: a server runs in %s: %s", e.Directory, e.Reason)
}

// ForeignError means that a delta restore found a directory that is not of the backup's cluster. Nothing in it was changed.
type ForeignError struct {
	Directory string
	SystemID  uint64 // of the cluster it is of; 0 when it is no data directory, or its pg_control cannot be read
	Backup    uint64 // system identifier of the backup's cluster
	Reason    string
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("restore: %s %s: choose another directory, or overwrite it (Options.Overwrite) if nothing in it is needed",
		e.Directory, e.Reason)
}

// RepositoryError means that a directory to restore over holds a repository, which would be removed with all else that is
// not of the backup. Nothing in it was changed.
type RepositoryError struct {
	Directory  string
	Repository string // directory of the repository
}

func (e *RepositoryError) Error() string {
	return fmt.Sprintf("restore: a restore over %s would remove the repository %s: move the repository, or choose another directory",
		e.Directory, e.Repository)
}

// repositoryMarker is the object that makes a directory a repository (FORMAT.md).
const repositoryMarker = "pgcairn.json"

// requireNoRepository makes sure that no repository lies in a directory: the one that is restored from, for one.
func requireNoRepository(root *os.Root, dir string) error {
	err := fs.WalkDir(root.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == repositoryMarker {
			return &RepositoryError{Directory: dir, Repository: filepath.Join(dir, filepath.FromSlash(path.Dir(p)))}
		}
		return err
	})
	if errors.As(err, new(*RepositoryError)) || err == nil {
		return err
	}
	return fmt.Errorf("restore: look for a repository in %s: %w", dir, err)
}

// requireStopped makes sure that no server runs in a directory. What a lock file says means nothing here when the server
// runs in a container; so what is called as servers are must not work there either. Servers of other hosts that share the
// directory are not seen, nor are those of a container from another, or by anybody but root and their own user.
func requireStopped(root *os.Root, dir string) error {
	if err := requireUnlocked(root, dir); err != nil {
		return err
	}
	here, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if pid := process.WorksIn(here, "postgres", "postmaster"); pid != 0 {
		return &RunningError{Directory: dir, PID: pid, Reason: fmt.Sprintf("process %d; stop it first", pid)}
	}
	return nil
}

// requireUnlocked makes sure that no server has locked a directory, as PostgreSQL itself does before it starts one
// (CreateLockFile in miscinit.c): the process of the lock file must be gone, and with it all those that share its memory.
// Beyond that, a live process of that id is told from the server by its working directory: after a crash of the machine
// the id may be anybody's.
func requireUnlocked(root *os.Root, dir string) error {
	b, err := root.ReadFile(pgfile.LockPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	lock, err := pgfile.ParseLockFile(b)
	if err != nil {
		return &RunningError{Directory: dir, Reason: err.Error() + ", as while it starts; if none does, remove that file"}
	}
	if process.Alive(lock.PID) && !worksElsewhere(lock, root) {
		return &RunningError{Directory: dir, PID: lock.PID, Reason: fmt.Sprintf("process %d; stop it first", lock.PID)}
	}
	if lock.ShmID != 0 && process.Attached(lock.ShmKey, lock.ShmID) {
		return &RunningError{Directory: dir, PID: lock.PID, Reason: fmt.Sprintf(
			"process %d is gone, but others that it started still share its memory; end them first", lock.PID)}
	}
	return nil
}

// worksElsewhere tells whether the process of a lock file certainly is no server of the directory. Servers work in theirs.
func worksElsewhere(lock pgfile.LockFile, root *os.Root) bool {
	path, there, err := process.WorkDir(lock.PID)
	if err != nil || path == lock.DataDir {
		return false
	}
	here, err := root.Stat(".")
	return err == nil && !os.SameFile(here, there)
}
