package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// fileReader reads pieces of the files that are there. It keeps the last one open, since most pieces belong to the same
// as the one before.
type fileReader struct {
	d    *destination
	file int // that is open
	open *os.File
	buf  []byte
}

func (d *destination) reader() *fileReader { return &fileReader{d: d} }

// local returns which frames of a pack need not be fetched: what is read in their place has the hash that they have or,
// where they are needed in part, the hashes that this part has: of packs that were written before there were any, such
// frames are fetched. What cannot be read is not right.
func (r *run) local(ctx context.Context, p *backup.PackPieces) ([]bool, error) {
	in := r.dest.reader()
	defer in.close()
	right := make([]bool, len(p.Frames))
	var stretches *repo.Stretches
	asked := false
	for i := range right {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !p.Needs(i) || !in.assemble(p.Pieces[i]) {
			continue
		}
		if !inPart(p.Pieces[i]) {
			right[i] = repo.HashOf(in.buf) == p.Frames[i].Hash
		} else {
			if !asked {
				var err error
				if stretches, err = r.repo.Stretches(ctx, p.Pack); err != nil {
					return nil, notMissing(fmt.Errorf("restore: %w", err))
				}
				asked = true
			}
			right[i] = holdsParts(stretches, i, p.Pieces[i], in.buf)
		}
		if right[i] {
			r.reuse(p.Pieces[i], in.buf)
		}
	}
	return right, nil
}

// inPart tells whether a frame has bytes that are not needed.
func inPart(pieces []backup.Piece) bool {
	return slices.ContainsFunc(pieces, func(c backup.Piece) bool { return c.File == backup.NoFile })
}

// holdsParts tells whether a frame holds what is needed of it as b has it, where that would be in the frame.
func holdsParts(s *repo.Stretches, frame int, pieces []backup.Piece, b []byte) bool {
	from, at := 0, 0 // of pieces that are needed, one behind the other
	for _, c := range pieces {
		if c.File == backup.NoFile {
			if from < at && !s.Hold(frame, from, b[from:at]) {
				return false
			}
			from = at + c.Length
		}
		at += c.Length
	}
	return from == at || s.Hold(frame, from, b[from:at])
}

// reuse counts the bytes that are needed of a frame, and are there.
func (r *run) reuse(pieces []backup.Piece, b []byte) {
	for _, c := range pieces {
		if c.File != backup.NoFile {
			r.reused.Add(int64(c.Length))
			r.dest.sums.add(c.File, &r.manifest.FileList[c.File], b[:c.Length], c.Offset)
		}
		b = b[c.Length:]
	}
}

// stagedBefore tells whether pg_wal has just what the archive has of a file.
func (r *run) stagedBefore(ctx context.Context, name string) (bool, error) {
	n, err := wal.ParseName(name)
	if err != nil {
		return false, err
	}
	root, p := r.dest.locate("pg_wal/" + name)
	f, err := root.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return r.archive.Same(ctx, n, f, info.Size())
}

// assemble reads what is needed of a frame from where it belongs to where the frame has it, and tells whether all of it
// could be read.
func (r *fileReader) assemble(pieces []backup.Piece) bool {
	if r.buf == nil {
		r.buf = make([]byte, repo.FrameSize)
	}
	r.buf = r.buf[:cap(r.buf)]
	n := 0
	for _, p := range pieces {
		if p.File != backup.NoFile && !r.read(p.File, r.buf[n:n+p.Length], p.Offset) {
			return false
		}
		n += p.Length
	}
	r.buf = r.buf[:n]
	return true
}

func (r *fileReader) read(file int, b []byte, off int64) bool {
	if r.open == nil || r.file != file {
		r.close()
		root, name := r.d.locate(r.d.manifest.FileList[file].Path)
		f, err := root.Open(name)
		if err != nil {
			return false
		}
		r.file, r.open = file, f
	}
	n, err := r.open.ReadAt(b, off)
	return n == len(b) || err == nil
}

func (r *fileReader) close() {
	if r.open != nil {
		_ = r.open.Close()
		r.open = nil
	}
}
