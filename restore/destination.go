package restore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// controlTemp is where pg_control is before everything else is on disk.
const controlTemp = pgfile.ControlPath + ".pgcairn"

// destination is the directory that a restore goes to, and those outside of it that it links to. Everything is written
// through os.Root, so whatever a manifest says, nothing outside of them is touched.
type destination struct {
	path     string
	manifest *backup.Manifest
	root     *os.Root
	outside  map[string]*os.Root // where links lead to, by their paths
	locks    []*os.File          // on the directories
	mark     mark
	reuse    bool          // there are files already, some of which may be right
	sized    []atomic.Bool // by file of the manifest: it has its full size
	sums     sums          // by file of the manifest
}

// openDestination makes sure that the directories exist and can be used.
func openDestination(dir string, m *backup.Manifest, o *Options) (_ *destination, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	d := &destination{path: dir, manifest: m, outside: map[string]*os.Root{}, sized: make([]atomic.Bool, len(m.FileList)), sums: make(sums, len(m.FileList))}
	d.mark = mark{Backup: m.ID, Control: sha256.Sum256(m.Control)}
	if d.mark.WAL, err = placeWAL(dir, o.WALDirectory); err != nil {
		return nil, err
	}
	if d.mark.Tablespaces, err = mapTablespaces(dir, d.mark.WAL, m, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.root, err = d.open(dir); err != nil {
		return nil, err
	}
	if err := d.admit(o); err != nil {
		return nil, err
	}
	return d, nil
}

// open opens a directory, which it makes when needed, and locks it until the destination is closed: another restore
// would take what this one writes for what a killed one has left.
func (d *destination) open(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	d.locks = append(d.locks, f)
	if locked, err := durable.TryLock(f); err == nil && !locked { // an error: there are no locks here
		return nil, &BusyError{Directory: dir}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return root, nil
}

func requireEmpty(root *os.Root, dir string) error {
	names, err := list(root)
	if err != nil {
		return err
	}
	// What mkfs leaves in a new file system is nobody's.
	if slices.ContainsFunc(names, func(n string) bool { return n != "lost+found" && n != markFile && n != markTemp }) {
		return &NotEmptyError{Directory: dir}
	}
	return nil
}

// list returns the names in a root's directory.
func list(root *os.Root) ([]string, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return names, nil
}

// ownDirectories are those that there are whatever the manifest says.
var ownDirectories = []string{"global", "pg_wal", "pg_wal/archive_status", "pg_tblspc"} //nolint:gochecknoglobals // a constant

// begin marks the directory, removes what does not belong there, and makes all directories. Of files besides the
// manifest's it keeps those that are named.
func (d *destination) begin(ctx context.Context, keep []string) error {
	s := d.sweeper(ctx, keep)
	if d.reuse {
		if err := s.requireUnmounted(); err != nil {
			return err
		}
	}
	if err := d.writeMark(); err != nil {
		return err
	}
	if d.reuse {
		if err := d.takeControl(); err != nil {
			return err
		}
		if err := s.all(); err != nil {
			return err
		}
	}
	if err := d.root.Chmod(".", 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for _, dir := range slices.Concat(d.manifest.Directories, ownDirectories) {
		if err := d.mkdir(dir); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	for link, location := range d.mark.links() {
		// A link that is there leads to the same place, or it would have been removed.
		if err := d.root.Symlink(location, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("restore: %w", err)
		}
	}
	return d.makeInPlace()
}

func (d *destination) outsideRoots() []*os.Root {
	roots := make([]*os.Root, 0, len(d.outside)+1)
	for _, r := range d.outside {
		roots = append(roots, r)
	}
	return roots
}

// locate returns the root that a path below the data directory is in, and the path below that.
func (d *destination) locate(p string) (*os.Root, string) {
	if link := linkOf(p); d.outside[link] != nil {
		rest := strings.TrimPrefix(p[len(link):], "/")
		return d.outside[link], filepath.FromSlash(cmp.Or(rest, "."))
	}
	return d.root, filepath.FromSlash(p)
}

func (d *destination) mkdir(p string) error {
	root, name := d.locate(p)
	if name == "." {
		return root.Chmod(".", 0o700)
	}
	return root.MkdirAll(name, 0o700)
}

// openFile opens a file of the manifest, by its index. The first time it is made, of its full size; what is not written
// stays zero and takes no space.
func (d *destination) openFile(file int) (*os.File, error) {
	entry := d.manifest.FileList[file]
	root, name := d.locate(entry.Path)
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		// Its directory was made after the directories were listed.
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
		f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err == nil && !d.sized[file].Swap(true) {
		if err = f.Truncate(entry.Size); err != nil {
			_ = f.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return f, nil
}

// makeEmpty makes the files that no pack has bytes of.
func (d *destination) makeEmpty(ctx context.Context) error {
	for i, f := range d.manifest.FileList {
		if f.Data > 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := d.openFile(i)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// create writes a new file.
func (d *destination) create(p string, write func(io.Writer) error) error {
	root, name := d.locate(p)
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	return nil
}

func (d *destination) createText(p, content string) error {
	return d.create(p, func(w io.Writer) error {
		f, ok := w.(*os.File)
		if !ok {
			return errors.New("restore: not a file")
		}
		if _, err := f.WriteString(content); err != nil {
			return err
		}
		return f.Sync()
	})
}

// readFile reads a file of at most limit bytes.
func (d *destination) readFile(p string, limit int64) ([]byte, error) {
	root, name := d.locate(p)
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", p, limit)
	}
	return b, err
}

// readText reads a file that may not exist.
func (d *destination) readText(p string) (string, error) {
	b, err := d.readFile(p, 16<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("restore: %w", err)
	}
	return string(b), nil
}

// sync syncs a directory in the data directory.
func (d *destination) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// commit puts everything on disk, then makes pg_control visible, which makes the directory a cluster.
func (d *destination) commit(ctx context.Context, control []byte) error {
	dirs := map[*os.Root][]string{}
	if d.reuse { // else there is nothing but what was made here
		for _, dir := range slices.Concat(d.manifest.Directories, ownDirectories) {
			root, name := d.locate(dir)
			dirs[root] = append(dirs[root], name)
		}
	}
	for _, root := range append(d.outsideRoots(), d.root) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := durable.SyncTree(root, dirs[root]...); err != nil {
			return fmt.Errorf("restore: sync: %w", err)
		}
	}
	if err := durable.SyncDir(filepath.Dir(d.path)); err != nil {
		return fmt.Errorf("restore: sync: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.createText(controlTemp, string(bytes.Clone(control))); err != nil {
		return err
	}
	if err := d.root.Rename(controlTemp, pgfile.ControlPath); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := d.sync("global"); err != nil {
		return err
	}
	if err := d.root.Remove(markFile); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return d.sync(".")
}

func (d *destination) close() {
	if d.root != nil {
		_ = d.root.Close()
	}
	for _, r := range d.outside {
		if r != nil {
			_ = r.Close()
		}
	}
	for _, f := range d.locks {
		_ = f.Close()
	}
}
