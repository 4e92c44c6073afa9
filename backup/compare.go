package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/pgcairn/pgcairn/repo"
)

// ranges reads spans of the open file, many at a time.
func (w *worker) ranges(ctx context.Context, far RangeReader, spans []span) error {
	p := w.pagesOf(w.path)
	for len(spans) > 0 {
		free, err := w.room(p)
		if err != nil {
			return err
		}
		// As many whole pages as the frame has room for.
		var asked []Range
		room, total := int64(min(free, w.c.pace.Piece())), 0
		rest := spans
		for len(rest) > 0 && room > 0 {
			n := min(room, rest[0].n)
			asked = append(asked, Range{Offset: rest[0].off, Length: int(n)})
			room, total = room-n, total+int(n)
			if n < rest[0].n {
				rest = append([]span{{rest[0].file, rest[0].off + n, rest[0].n - n}}, rest[1:]...)
				break
			}
			rest = rest[1:]
		}
		if err := w.c.pace.Wait(ctx, total); err != nil {
			return err
		}
		buf := w.frame[len(w.frame) : len(w.frame)+total]
		counts, err := far.ReadRanges(buf, asked)
		if err != nil {
			return err
		}
		for i, n := range counts {
			w.c.read.Add(int64(n))
			if err := w.take(ctx, p, w.file, asked[i].Offset, buf[:n]); err != nil {
				return err
			}
			buf = buf[n:]
			if n > 0 || asked[i].Offset == 0 {
				w.c.found(w.file, asked[i].Offset+int64(n))
			}
		}
		spans = rest
	}
	return nil
}

// compare reads what a frame of the base, or one that was left, holds from the files as they are, and stores it where it
// is not the same.
func (w *worker) compare(ctx context.Context, f frameRef) error {
	d := w.c.diff
	pieces := d.packs[f.pack].Pieces[f.frame]
	if cap(w.frame)-len(w.frame) < d.packs[f.pack].Frames[f.frame].Raw || len(w.pieces)+len(pieces) > maxFramePieces {
		if err := w.flush(); err != nil {
			return err
		}
	}
	begun := len(w.frame)
	buf := w.frame[begun:cap(w.frame)]
	counts := make([]int, len(pieces))
	total, short := 0, false
	for i, p := range pieces {
		k := d.entryOf(p)
		if k == gone {
			continue
		}
		n, err := w.readPiece(ctx, k, buf[total:total+p.Length], p.Offset)
		if err != nil {
			return err
		}
		if d.wasLeft(f) {
			if err := w.verifyAll(ctx, k, buf[total:total+n], p.Offset); err != nil {
				return err
			}
		}
		counts[i], total, short = n, total+n, short || n < p.Length
	}
	if hash, whole := d.hash(f); whole && !short && repo.HashOf(buf[:total]) == hash {
		if d.wasLeft(f) {
			d.fits(f)
		}
		return nil
	}
	return w.replace(ctx, f, buf, counts)
}

// readPiece reads a part of a file, as far as the file has it.
func (w *worker) readPiece(ctx context.Context, file int, b []byte, off int64) (int, error) {
	err := w.open(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		w.c.vanished(file)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := w.c.pace.Wait(ctx, len(b)); err != nil {
		return 0, err
	}
	n, err := w.content.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, w.judge(file, err)
	}
	w.c.read.Add(int64(n))
	if n > 0 || off == 0 {
		w.c.found(file, off+int64(n))
	}
	return n, nil
}

// replace stores what was read of a frame's pieces, one behind the other in buf, instead of what the frame has: all of it
// or, by LSN, the pages of relations that have changed since the base. What is put off is not stored.
func (w *worker) replace(ctx context.Context, f frameRef, buf []byte, counts []int) error {
	d := w.c.diff
	pieces := d.packs[f.pack].Pieces[f.frame]
	left := d.wasLeft(f)
	some := false // a page tells by its LSN that it has changed
	if d.by == ByLSN && w.logged && !left {
		rest := buf
		for _, n := range counts {
			for at := 0; at < n; at += int(w.c.start.PageSize) {
				some = some || d.changed(rest[at:min(at+int(w.c.start.PageSize), n)], int(w.c.start.PageSize))
			}
			rest = rest[n:]
		}
	}
	for i, p := range pieces {
		k := d.entryOf(p)
		if k == gone {
			continue
		}
		pages, err := w.pagesAgain(ctx, k, left)
		if err != nil {
			return err
		}
		got := buf[:counts[i]]
		buf = buf[counts[i]:]
		for at := 0; at < len(got); at += pages.size {
			page, off := got[at:min(at+pages.size, len(got))], p.Offset+int64(at)
			if some && !d.changed(page, pages.size) {
				continue
			}
			x := extent{off, off + int64(len(page))}
			if !left {
				d.replace(k, x)
				if w.logged && d.putOff(k, x) { // others may be shorter when they are read again, and nobody would know
					continue
				}
			}
			if err := w.take(ctx, pages, k, off, page); err != nil {
				return err
			}
		}
		// What the file does not have any more.
		if n := counts[i]; n < p.Length && !left {
			d.replace(k, extent{p.Offset + int64(n), p.Offset + int64(p.Length)})
		}
	}
	return nil
}

// verifyAll checks the pages of a part of the open file. Those that were torn are read again, into the same memory.
func (w *worker) verifyAll(ctx context.Context, file int, b []byte, off int64) error {
	p := w.pagesOf(w.path)
	for at := 0; at < len(b); at += p.size {
		if err := w.verify(ctx, p, b[at:min(at+p.size, len(b))], off+int64(at)); err != nil {
			return w.judge(file, err)
		}
	}
	return nil
}

// pagesAgain is pagesOf a file that need not be the one that is open, whose pages may have been verified.
func (w *worker) pagesAgain(ctx context.Context, file int, verified bool) (pages, error) {
	p := w.pagesOf(w.c.entries[file].Path)
	p.verify = p.verify && !verified
	if !p.verify {
		return p, nil
	}
	err := w.open(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		p.verify = false // what was read of it does not matter
		return p, nil
	}
	p.again = w.content
	return p, err
}
