package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/restore"
)

// What a drill makes in its directory. The mark comes first and goes last: what lies beside one is a drill's.
const (
	markName       = "pgcairn.drill"
	dataName       = "data"
	spacesName     = "tablespaces"
	socketName     = "s"
	logName        = "server.log"
	confName       = "postgresql.conf"
	accessName     = "pg_hba.conf"
	identitiesName = "pg_ident.conf"
)

// contents are all of them, in the order in which they are removed.
func contents() []string {
	return []string{dataName, spacesName, socketName, logName, confName, accessName, identitiesName, markName}
}

// maxSocketDir is how long the path of a directory may be for a socket in it: 107 bytes on Linux and 103 on macOS, less
// what is added to its name and to that of its lock.
const maxSocketDir = 103 - len("/.s.PGSQL.5432.lock")

// Timeouts for what has been told to end.
const (
	orphanTimeout = 30 * time.Second // the server of a drill that was killed
	pollEvery     = 20 * time.Millisecond
)

// scratch is the directory of a drill. It is locked while the drill goes on, and the mark in it also by the server, which
// inherits that lock: as long as any of its processes lives, the next drill does not touch what it has.
type scratch struct {
	dir    string
	socket string // directory
	made   bool   // dir was not there before
	lock   *os.File
	mark   *os.File
	logger *slog.Logger
}

// openScratch makes the directory, or takes over one that is empty or that a drill which was killed has left.
func openScratch(ctx context.Context, dir string, a *account, logger *slog.Logger) (_ *scratch, err error) {
	s := &scratch{dir: dir, logger: logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	if err := s.open(a); err != nil {
		return nil, err
	}
	if err := s.takeOver(ctx); err != nil {
		return nil, err
	}
	return s, s.fill(a)
}

// open opens and locks the directory.
func (s *scratch) open(a *account) (err error) {
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "pgcairn-drill"); err != nil {
			return err
		}
		s.made = true
	} else {
		if s.dir, err = filepath.Abs(s.dir); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
			return err
		}
		err = os.Mkdir(s.dir, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		s.made = err == nil
	}
	if s.made && a.switched {
		// The other user passes through on the way to what belongs to it.
		if err := os.Chmod(s.dir, 0o711); err != nil {
			return err
		}
	}
	if s.lock, err = os.Open(s.dir); err != nil {
		return err
	}
	if locked, err := durable.TryLock(s.lock); err == nil && !locked { // an error: there are no locks here
		return &BusyError{Directory: s.dir}
	}
	return nil
}

// takeOver clears what a drill that was killed has left, and marks the directory.
func (s *scratch) takeOver(ctx context.Context) error {
	names, err := s.lock.Readdirnames(-1)
	if err != nil {
		return err
	}
	marked := slices.Contains(names, markName)
	for _, name := range names {
		// What mkfs leaves in a new file system is nobody's.
		if name != "lost+found" && (!marked || !slices.Contains(contents(), name)) {
			return &restore.NotEmptyError{Directory: s.dir}
		}
	}
	mark, err := os.OpenFile(filepath.Join(s.dir, markName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := s.awaitOrphan(ctx, mark); err != nil {
		_ = mark.Close()
		return err
	}
	s.mark = mark
	if err := s.clear(func(name string) bool { return name != markName }); err != nil {
		return err
	}
	return s.remember(marked)
}

// remember has the mark tell whether the directory is to go with what is in it.
func (s *scratch) remember(marked bool) error {
	if !marked {
		_, err := fmt.Fprintf(s.mark, "%t\n", s.made)
		return err
	}
	b := make([]byte, 8)
	n, err := s.mark.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	s.made = string(b[:n]) == "true\n"
	return nil
}

// awaitOrphan waits until the server of a drill that was killed is gone, and locks the mark.
func (s *scratch) awaitOrphan(ctx context.Context, mark *os.File) error {
	timeout := time.NewTimer(orphanTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		locked, err := durable.TryLock(mark)
		pid := s.orphan()
		if locked || err != nil && pid == 0 {
			return nil
		}
		if first {
			s.logger.InfoContext(ctx, "waiting for the server of a drill that was killed", "directory", s.dir, "pid", pid)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return &BusyError{Directory: s.dir, PID: pid}
		case <-tick.C:
		}
		if err != nil {
			return &BusyError{Directory: s.dir, PID: pid} // without locks nobody can tell whether it is gone
		}
	}
}

// orphan is the process that a server on the data directory has said that it is, or 0.
func (s *scratch) orphan() int {
	b, err := os.ReadFile(filepath.Join(s.dir, dataName, "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(line)
	return pid
}

// fill makes what the server needs besides its data.
func (s *scratch) fill(a *account) error {
	s.socket = filepath.Join(s.dir, socketName)
	var err error
	if len(s.socket) > maxSocketDir {
		s.socket, err = os.MkdirTemp("", "pgcairn-drill")
	} else {
		err = os.Mkdir(s.socket, 0o700)
	}
	if err != nil {
		return err
	}
	if len(s.socket) > maxSocketDir {
		return fmt.Errorf("the path %s is too long for a socket: choose a shorter one for temporary files", s.socket)
	}
	own := []string{s.socket}
	for name, text := range map[string]string{
		confName:       "# of a cluster whose postgresql.conf is not in its data directory\n",
		accessName:     "# who can reach the socket is let in\nlocal all " + "all trust\n",
		identitiesName: "",
	} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		own = append(own, path)
	}
	return a.own(own...)
}

// path is that of something in the directory.
func (s *scratch) path(name string) string { return filepath.Join(s.dir, name) }

// release leaves the directory as it is.
func (s *scratch) release() error { return errors.Join(s.mark.Close(), s.lock.Close()) }

// remove removes all that the drill has made. Of a directory that it could not get hold of it removes nothing.
func (s *scratch) remove() error {
	var errs []error
	if s.mark != nil {
		if s.socket != "" {
			errs = append(errs, os.RemoveAll(s.socket))
		}
		errs = append(errs, s.clear(func(string) bool { return true }), s.mark.Close())
		s.mark = nil
	}
	if s.made {
		errs = append(errs, os.Remove(s.dir))
		s.made = false
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// clear removes what a drill makes in the directory.
func (s *scratch) clear(which func(name string) bool) error {
	for _, name := range contents() {
		if which(name) {
			if err := os.RemoveAll(s.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}
