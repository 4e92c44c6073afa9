package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// Files walks the data directory. What it finds may have vanished by the time it is opened.
func (s *directorySession) Files(ctx context.Context) iter.Seq2[Entry, error] {
	w := newWalker(ctx, s.control, s.start.Tablespaces, s.server.log)
	return w.files(func(dirs []string, each func(string, []fs.DirEntry) error) error {
		for _, dir := range dirs {
			if err := ctx.Err(); err != nil {
				return err
			}
			entries, err := os.ReadDir(filepath.Join(s.pgdata, filepath.FromSlash(dir)))
			if errors.Is(err, fs.ErrNotExist) && dir != "" {
				continue // dropped meanwhile, with all its files
			}
			if err != nil {
				return err
			}
			if err := each(dir, entries); err != nil {
				return err
			}
		}
		return nil
	})
}

// errStop ends a walk whose consumer has had enough.
var errStop = errors.New("stop")

// walker decides what of a data directory belongs in a backup.
type walker struct {
	ctx         context.Context //nolint:containedctx // of the one walk that a walker is for
	catalog     uint32          // catalog version of the cluster
	tablespaces map[string]bool // by OID, those outside the data directory when the backup began
	log         *slog.Logger
	yield       func(Entry, error) bool
}

func newWalker(ctx context.Context, control pgfile.Control, tablespaces []Tablespace, log *slog.Logger) *walker {
	w := &walker{ctx: ctx, catalog: control.CatalogVersion, tablespaces: map[string]bool{}, log: log}
	for _, t := range tablespaces {
		w.tablespaces[strconv.FormatUint(uint64(t.OID), 10)] = true
	}
	return w
}

// files yields what belongs in a backup. list calls each with the entries of each directory, by its path below the data
// directory, but for those that have vanished.
func (w *walker) files(list func(dirs []string, each func(dir string, entries []fs.DirEntry) error) error) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		w.yield = yield
		for level := []string{""}; len(level) > 0; {
			var below []string
			err := list(level, func(dir string, entries []fs.DirEntry) error {
				subdirectories, err := w.directory(dir, entries)
				below = append(below, subdirectories...)
				return err
			})
			if errors.Is(err, errStop) {
				return
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("backup: list the data directory: %w", err))
				return
			}
			level = below
		}
	}
}

// directory yields what is in a directory, and returns those below it whose content is wanted.
func (w *walker) directory(dir string, entries []fs.DirEntry) (below []string, err error) {
	unlogged := unloggedRelations(dir, entries)
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		switch {
		case isLink(e) && isTablespace(dir, e.Name()) && !w.tablespaces[e.Name()]:
			// Created since the backup began: recovery will do so again, and what is in it.
		case e.IsDir() || isLink(e) && (pgfile.ContentExcluded(p) || isTablespace(dir, e.Name())):
			var wanted bool
			if wanted, err = w.subdirectory(dir, p); wanted {
				below = append(below, p)
			}
		case e.Type().IsRegular():
			err = w.file(p, e, unlogged)
		default:
			w.log.WarnContext(w.ctx, "left out of the backup: neither file nor directory", "path", p)
		}
		if err != nil {
			return nil, err
		}
	}
	return below, nil
}

// subdirectory yields a directory, unless it does not belong in a backup, and tells whether its content is wanted.
func (w *walker) subdirectory(dir, p string) (wanted bool, err error) {
	// Of a tablespace, only the directory of this cluster's version is its own; another cluster's may lie beside it.
	if strings.Count(p, "/") == 2 && strings.HasPrefix(dir, "pg_tblspc/") && !w.ours(path.Base(p)) {
		return false, nil
	}
	if excluded(p) { // pgsql_tmp; the server makes it when it needs it
		return false, nil
	}
	if !w.yield(Entry{Path: p, Dir: true}, nil) {
		return false, errStop
	}
	return !pgfile.ContentExcluded(p), nil
}

// ours tells whether a directory in a tablespace is of this cluster: PG_<major>_<catalog version>.
func (w *walker) ours(name string) bool {
	return strings.HasPrefix(name, "PG_") && strings.HasSuffix(name, fmt.Sprintf("_%d", w.catalog))
}

func (w *walker) file(p string, e fs.DirEntry, unlogged map[uint32]bool) error {
	if excluded(p) {
		return nil
	}
	if r, ok := pgfile.ParseRelation(p); ok && r.Fork != "init" && unlogged[r.Number] {
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !w.yield(Entry{Path: p, Size: info.Size()}, nil) {
		return errStop
	}
	return nil
}

// unloggedRelations are those that have an init fork, from which recovery makes them anew.
func unloggedRelations(dir string, entries []fs.DirEntry) map[uint32]bool {
	var unlogged map[uint32]bool
	for _, e := range entries {
		if r, ok := pgfile.ParseRelation(path.Join(dir, e.Name())); ok && r.Fork == "init" && !r.Temp {
			if unlogged == nil {
				unlogged = map[uint32]bool{}
			}
			unlogged[r.Number] = true
		}
	}
	return unlogged
}

// excluded tells whether a path does not belong in a backup. Besides what servers make anew these are the files that a
// restore keeps for itself: the first or last moments of one that was killed may have left them in a cluster.
func excluded(p string) bool {
	switch p {
	case "pgcairn.restore", "pgcairn.restore.tmp", "pgcairn.restore.frames", pgfile.ControlPath, pgfile.ControlPath + ".pgcairn":
		return true
	}
	return pgfile.FileExcluded(p)
}

func isLink(e fs.DirEntry) bool { return e.Type()&fs.ModeSymlink != 0 }

func isTablespace(dir, name string) bool { return dir == "pg_tblspc" && pgfile.ValidOID(name) }
