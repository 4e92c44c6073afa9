package restore

import (
	"errors"
	"io"
	"io/fs"
	"sync"
)

var errIsDir = errors.New("is a directory")

// openFile is an open file of an [FS].
type openFile struct {
	fs   *FS
	node *fsNode

	mu     sync.Mutex
	off    int64
	closed bool
}

func (f *openFile) error(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.node.path, Err: err}
}

// Stat implements fs.File.
func (f *openFile) Stat() (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, f.error("stat", fs.ErrClosed)
	}
	return f.node, nil
}

// Read implements io.Reader.
func (f *openFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, f.error("read", fs.ErrClosed)
	}
	n, err := f.fs.readAt(f.node, p, f.off)
	f.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *openFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return 0, f.error("read", fs.ErrClosed)
	}
	return f.fs.readAt(f.node, p, off)
}

// Seek implements io.Seeker.
func (f *openFile) Seek(off int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, f.error("seek", fs.ErrClosed)
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += f.node.size
	default:
		return 0, f.error("seek", fs.ErrInvalid)
	}
	if off < 0 {
		return 0, f.error("seek", fs.ErrInvalid)
	}
	f.off = off
	return off, nil
}

// Close implements fs.File.
func (f *openFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.error("close", fs.ErrClosed)
	}
	f.closed = true
	return nil
}

// openDir is an open directory of an [FS].
type openDir struct {
	fs   *FS
	node *fsNode

	mu     sync.Mutex
	begun  bool
	rest   []fs.DirEntry // that were not returned yet
	closed bool
}

func (d *openDir) error(op string, err error) error {
	return &fs.PathError{Op: op, Path: d.node.path, Err: err}
}

// Stat implements fs.File.
func (d *openDir) Stat() (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, d.error("stat", fs.ErrClosed)
	}
	return d.node, nil
}

// Read implements fs.File.
func (d *openDir) Read([]byte) (int, error) { return 0, d.error("read", errIsDir) }

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.fs.frames.closed() {
		return nil, d.error("readdir", fs.ErrClosed)
	}
	if !d.begun {
		d.begun, d.rest = true, d.fs.tree.list(d.node.path)
	}
	if n <= 0 {
		n = len(d.rest)
	} else if len(d.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.rest))
	some := d.rest[:n:n]
	d.rest = d.rest[n:]
	return some, nil
}

// Close implements fs.File.
func (d *openDir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.error("close", fs.ErrClosed)
	}
	d.closed = true
	return nil
}
