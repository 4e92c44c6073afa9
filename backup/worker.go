package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
)

// blockSize is the unit in which zero bytes of files that are no relations are left out.
const blockSize = 8192

// A page that fails its checksum is read again this often, after a pause, for as long as there are not many of them.
const (
	rereads      = 3
	rereadPause  = 2 * time.Millisecond
	manyBadPages = 1000
)

// A frame holds at most so many pieces, and a pack little more than the other bound, so that a pack's line in the
// manifest stays far below maxLine. Tiny files, and pages between zero ones, take the most.
const (
	maxFramePieces = 1 << 16
	maxPackPieces  = 1 << 19
)

// worker gathers pieces of files in a frame and frames in a pack.
type worker struct {
	c       *collector
	ctx     context.Context //nolint:containedctx // of the packs, which outlive a call
	session Session

	file    int // that is open
	path    string
	content Content // nil when none is

	frame  []byte // raw bytes of the frame being gathered
	pieces []Piece
	pack   *repo.PackWriter // nil when none is begun
	packed [][]Piece        // of its frames
	count  int              // of pieces in packed

	logged bool // what is in the frame

	bad int // pages that failed so far
}

func (w *worker) task(ctx context.Context, t task) error {
	if w.logged != t.logged {
		if err := w.flush(); err != nil {
			return err
		}
		w.logged = t.logged
	}
	if t.release != nil {
		defer t.release()
	}
	for _, s := range t.sent {
		if err := w.sent(ctx, s); err != nil {
			return err
		}
	}
	for _, f := range t.frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.compare(ctx, f); err != nil {
			return err
		}
	}
	for i := 0; i < len(t.spans); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 1
		for i+n < len(t.spans) && t.spans[i+n].file == t.spans[i].file {
			n++
		}
		if err := w.read(ctx, t.spans[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// read reads spans of one file.
func (w *worker) read(ctx context.Context, spans []span) error {
	if err := w.open(ctx, spans[0].file); errors.Is(err, fs.ErrNotExist) {
		w.c.vanished(spans[0].file)
		return nil
	} else if err != nil {
		return err
	}
	if far, ok := w.content.(RangeReader); ok && len(spans) > 1 {
		return w.judge(spans[0].file, w.ranges(ctx, far, spans))
	}
	for _, s := range spans {
		end, err := w.span(ctx, s)
		if err != nil {
			return w.judge(s.file, err)
		}
		if end > s.off || s.off == 0 { // else it has shrunk to less
			w.c.found(s.file, end)
		}
	}
	return nil
}

// judge makes an error of reading a file one to fail with, unless the file has vanished since it was opened.
func (w *worker) judge(file int, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		w.c.vanished(file)
		return nil
	}
	if err != nil {
		return fmt.Errorf("backup: read %s: %w", w.path, err)
	}
	return nil
}

func (w *worker) open(ctx context.Context, file int) error {
	if w.content != nil && w.file == file {
		return nil
	}
	w.closeFile()
	path := w.c.entries[file].Path
	content, err := w.session.Open(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return fs.ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("backup: open %s: %w", path, err)
	}
	w.file, w.path, w.content = file, path, content
	return nil
}

// span reads a span of the open file and returns where it, or before that the file, ends.
func (w *worker) span(ctx context.Context, s span) (end int64, err error) {
	p := w.pagesOf(w.path)
	if f, ok := w.content.(interface{ Expect(off, n int64) }); ok {
		f.Expect(s.off, s.n)
	}
	for off, last := s.off, s.off+s.n; ; {
		if off == last {
			return off, nil
		}
		room, err := w.room(p)
		if err != nil {
			return off, err
		}
		room = min(room, w.c.pace.Piece()) // which is whole pages of any size
		buf := w.frame[len(w.frame) : len(w.frame)+int(min(int64(room), last-off))]
		if err := w.c.pace.Wait(ctx, len(buf)); err != nil {
			return off, err
		}
		n, err := w.content.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return off, err
		}
		w.c.read.Add(int64(n))
		if err := w.take(ctx, p, s.file, off, buf[:n]); err != nil {
			return off, err
		}
		off += int64(n)
		if errors.Is(err, io.EOF) {
			return off, nil
		}
	}
}

// sent stores what was sent of a file.
func (w *worker) sent(ctx context.Context, s sentSpan) error {
	p := w.pagesOf(s.path)
	p.again = nil // it is sent once
	for len(s.data) > 0 {
		room, err := w.room(p)
		if err != nil {
			return err
		}
		n := min(room, len(s.data))
		buf := w.frame[len(w.frame) : len(w.frame)+n]
		copy(buf, s.data)
		if err := w.take(ctx, p, s.file, s.off, buf); err != nil {
			return err
		}
		s.off, s.data = s.off+int64(n), s.data[n:]
	}
	return nil
}

// pages is what there is to know of the pages of a file.
type pages struct {
	path   string
	rel    pgfile.Relation
	size   int  // in bytes; of a file that is no relation's, the unit in which zeros are left out
	verify bool // they have checksums

	again io.ReaderAt // to read one once more; nil when that cannot be
}

// pagesOf returns that of a file which is open, or was sent.
func (w *worker) pagesOf(path string) pages {
	rel, ok := pgfile.ParseRelation(path)
	if !ok {
		return pages{path: path, size: blockSize}
	}
	return pages{path: path, rel: rel, size: int(w.c.start.PageSize), verify: w.c.start.Checksums, again: w.content}
}

// room makes room in the frame, and returns how many bytes it is: whole pages, so that none is cut by the end of a frame.
func (w *worker) room(p pages) (int, error) {
	if cap(w.frame)-len(w.frame) < p.size || len(w.pieces) >= maxFramePieces {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	return (cap(w.frame) - len(w.frame)) / p.size * p.size, nil
}

// take takes pages that were read at or after the frame's end into the frame.
func (w *worker) take(ctx context.Context, p pages, file int, off int64, got []byte) error {
	for len(got) > 0 {
		page := got[:min(p.size, len(got))]
		if err := w.verify(ctx, p, page, off); err != nil {
			return err
		}
		w.add(file, off, page)
		off, got = off+int64(len(page)), got[len(page):]
	}
	return nil
}

// add takes a page that has been read at or after the frame's end into the frame, unless it is zero.
func (w *worker) add(file int, off int64, page []byte) {
	if pgfile.Zero(page) {
		return
	}
	w.frame = append(w.frame, page...) // onto itself when nothing was left out before it
	if n := len(w.pieces); n > 0 {
		if p := &w.pieces[n-1]; p.File == file && p.Offset+int64(p.Length) == off {
			p.Length += len(page)
			return
		}
	}
	w.pieces = append(w.pieces, Piece{File: file, Offset: off, Length: len(page)})
}

// verify checks a page's checksum. A page may have been torn by a write in progress, so one that fails is read again,
// into the same memory.
func (w *worker) verify(ctx context.Context, p pages, page []byte, off int64) error {
	if !p.verify || len(page) != p.size {
		return nil
	}
	block := w.c.block(p.rel, off)
	for try := 0; ; try++ {
		if pgfile.PageOK(page, block) {
			return nil
		}
		if try == rereads || w.bad >= manyBadPages || p.again == nil {
			break
		}
		select {
		case <-time.After(rereadPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := p.again.ReadAt(page, off)
		if n < len(page) {
			clear(page[n:])
			if errors.Is(err, io.EOF) {
				return nil // truncated meanwhile; recovery knows
			}
			return err
		}
	}
	w.bad++
	w.c.suspect(p.path, block, page)
	return nil
}

// flush adds the frame to the pack, and has the pack committed when it is full.
func (w *worker) flush() error {
	if len(w.frame) > 0 {
		if w.pack == nil {
			key := w.c.id.packKey(w.c.nextPack.Add(1))
			pack, err := w.c.repo.CreatePack(w.ctx, key, &repo.PackOptions{Compression: w.c.compression, Stretches: true})
			if err != nil {
				return err
			}
			w.pack = pack
		}
		if err := w.pack.Append(w.frame); err != nil {
			return err
		}
		w.packed = append(w.packed, w.pieces)
		w.count += len(w.pieces)
		w.frame, w.pieces = w.frame[:0], nil
		if w.pack.Full() || w.count >= maxPackPieces {
			w.commit()
		}
	}
	if w.frame == nil {
		w.frame = make([]byte, 0, repo.FrameSize)
	}
	return nil
}

func (w *worker) commit() {
	w.c.commit(w.pack, w.packed)
	w.pack, w.packed, w.count = nil, nil, 0
}

func (w *worker) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.pack != nil {
		w.commit()
	}
	return nil
}

// close releases what a failure has left open.
func (w *worker) close() {
	w.closeFile()
	if w.pack != nil {
		_ = w.pack.Close()
	}
}

func (w *worker) closeFile() {
	if w.content != nil {
		_ = w.content.Close()
		w.content = nil
	}
}
