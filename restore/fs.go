package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
)

// FS shows a backup as a file system that cannot be written to, without restoring it: the data directory as the backup has
// it. The files are those of the manifest, with global/pg_control, backup_label and, where there are tablespaces,
// tablespace_map; files of tablespaces are below pg_tblspc/<oid>. There is no WAL in pg_wal, and nothing that [Plan.Run]
// would add for recovery. What a file has never stored is zero. Every modification time is that of the backup's end.
//
// What is read is fetched when it is read: the frames that hold it and no others, by ranged requests. Each is checked
// before a byte of it is returned, and kept for the next read while there is room. So pg_control, a relation or a page of
// it costs a request or two. Whoever wants all of a backup is better off with [Plan.Run].
//
// Names are those of package io/fs. A name that is none is an error matching fs.ErrInvalid, a file that the backup does
// not have fs.ErrNotExist, anything after Close fs.ErrClosed. No failure to read matches fs.ErrNotExist, not that of a pack
// that is missing either; content that is not what was backed up is a *[repo.CorruptError].
//
// An open file also is an io.ReaderAt and an io.Seeker, and a directory an fs.ReadDirFile. FS and all that it opens are
// safe for concurrent use; readers who want the same frame wait for one request.
type FS struct {
	manifest *backup.Manifest
	tree     fsTree
	index    func() *fsIndex
	repo     *repo.Repo
	ctx      context.Context
	cancel   context.CancelFunc
	packs    *fsCache[uint32, *repo.PackReader]
	frames   *fsCache[fsFrame, []byte]
}

// FSOptions are the options of [OpenFS]. A nil *FSOptions, and the zero value of each field, is its default.
type FSOptions struct {
	// CacheBytes is how much content is kept for further reads, in bytes. The default is 64 MiB. Besides, a read under way
	// takes up to 5 MiB, what is known of encrypted packs up to 5 MiB, and the manifest what it takes, with an index of it, 16
	// bytes for each piece and 8 for each file, from the first read on.
	CacheBytes int64
}

const (
	defaultCache = 64 << 20
	openPacks    = 64        // that are kept open, at 80 KiB at most
	entrySize    = 256       // bytes that keeping a frame takes beside its content
	maxReadFile  = 1<<31 - 1 // bytes that ReadFile returns at most
)

// fsFrame is a frame, by the numbers of its pack and of itself.
type fsFrame struct {
	pack  uint32
	frame uint16
}

// OpenFS opens a backup as a file system. It reads the manifest, and nothing else before it is needed. ctx bounds every
// call on the repository's store, until Close: when it ends, so do the reads under way, and there are no others. A backup
// that does not exist is an error matching fs.ErrNotExist.
func OpenFS(ctx context.Context, r *repo.Repo, id backup.ID, o *FSOptions) (*FS, error) {
	if o == nil {
		o = &FSOptions{}
	}
	limit := o.CacheBytes
	if limit <= 0 {
		limit = defaultCache
	}
	m, err := backup.Load(ctx, r, id)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	s := &FS{
		manifest: m, tree: newFSTree(m), repo: r,
		index:  sync.OnceValue(func() *fsIndex { return newFSIndex(m) }),
		packs:  newFSCache[uint32](openPacks, func(*repo.PackReader) int64 { return 1 }),
		frames: newFSCache[fsFrame](limit, func(raw []byte) int64 { return int64(cap(raw)) + entrySize }),
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s, nil
}

// Manifest is that of the backup, which tells for one which file is which relation's. It is not to be changed.
func (s *FS) Manifest() *backup.Manifest { return s.manifest }

// Close lets go of what is kept, and ends the reads under way. Files need not be closed before, and cannot be read
// afterwards.
func (s *FS) Close() error {
	s.frames.close()
	s.packs.close()
	s.cancel()
	return nil
}

// Open implements fs.FS.
func (s *FS) Open(name string) (fs.File, error) {
	n, err := s.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		return &openDir{fs: s, node: n}, nil
	}
	return &openFile{fs: s, node: n}, nil
}

// Stat implements fs.StatFS. It reads nothing from the repository.
func (s *FS) Stat(name string) (fs.FileInfo, error) {
	n, err := s.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ReadDir implements fs.ReadDirFS. It reads nothing from the repository.
func (s *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := s.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return s.tree.list(name), nil
}

// ReadFile implements fs.ReadFileFS. It refuses files of 2 GiB and more, whose content does not belong in memory.
func (s *FS) ReadFile(name string) ([]byte, error) {
	n, err := s.find("read", name)
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errIsDir}
	}
	if n.size > maxReadFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%d bytes are too many for memory: use Open and ReadAt", n.size)}
	}
	b := make([]byte, n.size)
	if _, err := s.readAt(n, b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

func (s *FS) find(op, name string) (*fsNode, error) {
	n, err := s.tree.find(name)
	if err == nil && s.frames.closed() {
		err = fs.ErrClosed
	}
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

// readAt is ReadAt of a file.
func (s *FS) readAt(n *fsNode, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: n.path, Err: fs.ErrInvalid}
	}
	if s.frames.closed() {
		return 0, &fs.PathError{Op: "read", Path: n.path, Err: fs.ErrClosed}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= n.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), n.size-off)]
	k, err := len(want), error(nil)
	if n.file < 0 {
		copy(want, n.text[off:])
	} else {
		k, err = s.readPieces(n.file, want, off)
	}
	switch {
	case err != nil && s.frames.closed():
		return k, &fs.PathError{Op: "read", Path: n.path, Err: fs.ErrClosed}
	case err != nil:
		return k, &fs.PathError{Op: "read", Path: n.path, Err: notMissing(fmt.Errorf("restore: %w", err))}
	case k < len(p):
		return k, io.EOF
	}
	return k, nil
}

// readPieces reads bytes that lie within a file of the manifest.
func (s *FS) readPieces(file int, p []byte, off int64) (n int, err error) {
	index := s.index()
	for _, at := range index.from(file, off) {
		piece := index.piece(at)
		// What no piece covers is zero.
		gap := int(min(max(0, piece.Offset-off-int64(n)), int64(len(p)-n)))
		clear(p[n : n+gap])
		if n += gap; n == len(p) {
			return n, nil
		}
		raw, err := s.frame(fsFrame{at.pack, at.frame})
		if err != nil {
			return n, err
		}
		raw = raw[at.at:][:piece.Length]
		n += copy(p[n:], raw[off+int64(n)-piece.Offset:])
	}
	clear(p[n:])
	return len(p), nil
}

// frame returns the raw bytes of a frame, which are not to be changed.
func (s *FS) frame(f fsFrame) ([]byte, error) {
	return s.frames.get(f, func() ([]byte, error) {
		p := &s.manifest.PackList[f.pack]
		reader, err := s.packs.get(f.pack, func() (*repo.PackReader, error) { return s.repo.OpenPack(s.ctx, p.Pack) })
		if err != nil {
			return nil, err
		}
		return reader.Frame(s.ctx, int(f.frame), make([]byte, 0, p.Frames[f.frame].Raw))
	})
}
