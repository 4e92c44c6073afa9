package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// DirOptions are the options of [OpenDir]. A nil *DirOptions, and the zero value of each field, is its default.
type DirOptions struct {
	// MustExist makes OpenDir fail with an error matching fs.ErrNotExist when there is no directory. By default it is
	// made, readable by its owner only, with the directories above it.
	MustExist bool

	// Now is the clock that tells how old the files and directories are that a killed process may have left behind
	// unsynced or unfinished. It has to go with the file system's. The default is time.Now.
	Now func() time.Time
}

// OpenDir returns a Store that keeps each object in a file of that name under the directory at path. Files and
// directories are made readable by their owner only.
//
// Commit returns once the file, its name, and the name of every directory above it in path are synced to disk. It
// creates the name with link(2), so of any number of processes, on any number of hosts that mount the file system, one
// wins; a file system without hard links is refused at Commit with a *[HardLinkError]. What a killed writer leaves is
// never listed, and is removed by a later Create or Delete in the same directory.
//
// Nothing outside path is ever touched: a symbolic link that leads out of it is an error, as is anything at a key that
// is neither a file nor a directory. Directories that have become empty stay.
//
// Where path lies on a file system of its own, let it be a directory below the mount point and set MustExist: then a
// repository is never begun by accident on the disk under an unmounted file system.
//
// The Store holds the directory open until it is garbage collected. A directory that is moved stays open.
func OpenDir(path string, o *DirOptions) (Store, error) {
	if o == nil {
		o = &DirOptions{}
	}
	if !o.MustExist {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("repo: open directory: %w", err)
		}
		if err := makeRoot(abs); err != nil {
			return nil, fmt.Errorf("repo: make directory: %w", err)
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("repo: open directory: %w", err)
	}
	return &dirStore{root: root, now: clock(o.Now), anchored: map[string]bool{}, swept: map[string]bool{}}, nil
}

// dirStore is a Store in a directory. Keys serve as file names as they are: checkKey admits nothing else.
type dirStore struct {
	root *os.Root
	now  func() time.Time

	mu       sync.Mutex
	anchored map[string]bool // directories whose names, up to the root, are known to be on disk
	swept    map[string]bool // directories that were searched for leftovers
}

var errIrregular = errors.New("neither a regular file nor a directory: a repository holds nothing else")

func (d *dirStore) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	const op = "open"
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, objerr.Failed(ctx, op, key, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid))
	}
	// Asking first keeps a planted FIFO from blocking the open for ever.
	if _, err := d.lookup(ctx, op, key); err != nil {
		return nil, err
	}
	f, err := d.root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, objerr.Missing(op, key, nil)
	}
	if err != nil {
		return nil, objerr.Failed(ctx, op, key, err)
	}
	if n < 0 || n > math.MaxInt64-off {
		n = math.MaxInt64 - off
	}
	return &dirBody{ctx: ctx, key: key, f: f, r: io.NewSectionReader(f, off, n)}, nil
}

func (d *dirStore) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	fi, err := d.lookup(ctx, "stat", key)
	if err != nil {
		return Info{}, err
	}
	return fileInfo(key, fi), nil
}

func (d *dirStore) Delete(ctx context.Context, key string) error {
	const op = "delete"
	if err := checkKey(key); err != nil {
		return err
	}
	// Asking first keeps Remove, which removes empty directories too, away from them.
	switch _, err := d.lookup(ctx, op, key); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := d.root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return objerr.Failed(ctx, op, key, refusal(err))
	}
	if err := d.syncDir(path.Dir(key)); err != nil {
		return objerr.Failed(ctx, op, key, err)
	}
	d.sweep(path.Dir(key))
	return nil
}

// refusal marks what the system does not permit: a directory of another owner, an immutable file (EPERM), a file system
// that is read-only.
func refusal(err error) error {
	for _, no := range []error{syscall.EPERM, syscall.EACCES, syscall.EROFS} {
		if errors.Is(err, no) {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return err
}

// lookup tells about the file at key, in the form Store asks for: missing when it is not there, failed when that cannot
// be told or something else is in its place.
func (d *dirStore) lookup(ctx context.Context, op, key string) (fs.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, objerr.Failed(ctx, op, key, err)
	}
	fi, err := d.root.Lstat(key)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), err == nil && fi.IsDir():
		return nil, objerr.Missing(op, key, nil)
	case err == nil && !fi.Mode().IsRegular():
		err = errIrregular
	}
	if err != nil {
		return nil, objerr.Failed(ctx, op, key, refusal(err))
	}
	return fi, nil
}

func fileInfo(key string, fi fs.FileInfo) Info {
	return Info{Key: key, Size: fi.Size(), ModTime: fi.ModTime()}
}

// dirBody reads a range of a file.
type dirBody struct {
	ctx context.Context
	key string
	f   *os.File
	r   *io.SectionReader
}

func (b *dirBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, objerr.Failed(b.ctx, "read", b.key, err)
	}
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = objerr.Failed(b.ctx, "read", b.key, err)
	}
	return n, err
}

func (b *dirBody) Close() error { return b.f.Close() }
