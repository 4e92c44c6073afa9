package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// receiver takes what a Streamer's server sends, in the order in which it comes, and hands to the workers what is to be
// stored. What a difference leaves out it finds out file by file, since nobody tells beforehand which there are.
type receiver struct {
	c       *collector
	from    Streamer
	changed changedRanges // since the base; without blocks when nobody knows
	frames  baseFrames
	left    leftFrames
	out     batches
	dirs    []string
}

// run receives everything.
func (r *receiver) run(ctx context.Context, tasks chan<- task) error {
	r.out.tasks = tasks
	for {
		e, err := r.from.Next(ctx)
		if errors.Is(err, io.EOF) {
			return r.out.flush(ctx)
		}
		if err == nil {
			err = r.entry(ctx, e)
		}
		if err != nil {
			return err
		}
	}
}

// directories returns those that were sent.
func (r *receiver) directories() []string {
	slices.Sort(r.dirs)
	return r.dirs
}

func (r *receiver) entry(ctx context.Context, e Sent) error {
	switch {
	case e.Dir:
		r.dirs = append(r.dirs, e.Path)
		return nil
	case e.Path == manifestName:
		r.c.serverManifest = true
		return keepServerManifest(ctx, r.c.repo, r.c.id, r.from)
	}
	if err := checkPath(e.Path); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	f := received{Sent: e, entry: r.c.arrived(e.Entry), base: r.frames.file(e.Path), left: r.left.file(e.Path)}
	if f.base != gone {
		r.c.diff.entry[f.base] = f.entry
	}
	if f.left != gone {
		r.c.diff.entry[r.left.first+f.left] = f.entry
	}
	if err := r.file(ctx, f); err != nil {
		return fmt.Errorf("backup: receive %s: %w", e.Path, err)
	}
	r.c.leave(f.entry, extent{e.Size, toEnd}) // what the base has behind its end
	r.c.found(f.entry, e.Size)
	return nil
}

// received is a file whose content comes.
type received struct {
	Sent
	entry int // index in collector.entries
	base  int // index in the base's FileList, or gone
	left  int // likewise, of what killed backups have left
}

// leftFrames are frames that killed backups have left.
type leftFrames struct {
	baseFrames
	first, pack int // in the difference: the index of the first file, and of the first pack
}

func (r *receiver) file(ctx context.Context, f received) error {
	rel, isLogged := logged(f.Path)
	switch {
	case f.Part:
		return r.parts(ctx, f)
	case f.base == gone:
		return r.store(ctx, f, extent{0, f.Size})
	case isLogged && r.changed.blocks != nil:
		return r.extents(ctx, f, r.changed.of(rel, r.c.diff.base.FileList[f.base].Size, f.Size))
	case isLogged && r.c.diff.by == ByLSN:
		return r.byLSN(ctx, f)
	}
	return r.compare(ctx, f)
}

// parts receives the parts of a file that stand for it in a difference.
func (r *receiver) parts(ctx context.Context, f received) error {
	if f.base == gone {
		return errors.New("the server sends the difference to a file that the base does not have")
	}
	for _, part := range f.Ranges {
		if err := r.store(ctx, f, extent{part.Offset, part.Offset + int64(part.Length)}); err != nil {
			return err
		}
	}
	r.c.leave(f.entry, extent{f.Same, toEnd})
	return nil
}

// extents receives a file of which only extents are to be stored.
func (r *receiver) extents(ctx context.Context, f received, changed []extent) error {
	at := int64(0)
	for _, x := range changed {
		if x.from >= f.Size {
			break
		}
		if err := r.skip(ctx, f, x.from-at); err != nil {
			return err
		}
		at = min(x.to, f.Size)
		if err := r.store(ctx, f, extent{x.from, at}); err != nil {
			return err
		}
	}
	return r.skip(ctx, f, f.Size-at)
}

// byLSN receives a relation's file of which only the pages are to be stored that tell by their LSN that they have changed,
// or that the base does not have: it was zero there, or shorter.
func (r *receiver) byLSN(ctx context.Context, f received) error {
	page := int64(r.c.start.PageSize)
	had := r.frames.had[f.base]
	for at := int64(0); at < f.Size; {
		b, err := r.window(ctx, f, min(sentUnit, f.Size-at))
		if err != nil {
			return err
		}
		for len(b) > 0 {
			x := extent{at, at + min(page, int64(len(b)))}
			for len(had) > 0 && had[0].to <= x.from {
				had = had[1:]
			}
			lacks := len(had) == 0 || x.from < had[0].from || x.to > had[0].to
			n := x.to - x.from
			if lacks || r.c.diff.changed(b[:n], int(page)) {
				r.keep(f, x, b[:n])
			}
			at, b = x.to, b[n:]
		}
	}
	return nil
}

// compare receives a file of which what frames of the base have is not stored again.
func (r *receiver) compare(ctx context.Context, f received) error {
	at := int64(0)
	for _, frame := range r.frames.of[f.base] {
		if frame.to > f.Size {
			break
		}
		if err := r.store(ctx, f, extent{at, frame.from}); err != nil {
			return err
		}
		b, err := r.window(ctx, f, frame.to-frame.from)
		if err != nil {
			return err
		}
		if r.frames.same(frame, b) {
			r.takeFrom(f, frame)
		} else {
			r.keepOrTake(f, frame.extent, b)
		}
		at = frame.to
	}
	return r.store(ctx, f, extent{at, f.Size})
}

// takeFrom leaves a part of a file to a frame of the base: what the frame holds, since other frames may hold what lies
// between its pieces, which is zero now.
func (r *receiver) takeFrom(f received, frame baseFrame) {
	at := frame.from
	for _, p := range r.c.diff.base.PackList[frame.pack].Pieces[frame.frame] {
		if p.Offset > at {
			r.c.leave(f.entry, extent{at, p.Offset})
		}
		at = p.Offset + int64(p.Length)
	}
}

// store receives an extent of a file that is to be stored, unless a frame that was left holds it.
func (r *receiver) store(ctx context.Context, f received, x extent) error {
	for {
		frame, ok := r.left.in(f.left, x)
		if !ok {
			return r.storeAnew(ctx, f, x)
		}
		if err := r.storeAnew(ctx, f, extent{x.from, frame.from}); err != nil {
			return err
		}
		b, err := r.window(ctx, f, frame.to-frame.from)
		if err != nil {
			return err
		}
		r.keepOrTake(f, frame.extent, b)
		x.from = frame.to
	}
}

// keepOrTake has a part of the window stored as an extent of a file, but for what frames that were left hold.
func (r *receiver) keepOrTake(f received, x extent, b []byte) {
	for {
		frame, ok := r.left.in(f.left, x)
		if !ok {
			break
		}
		n := frame.from - x.from
		held := b[n : n+frame.to-frame.from]
		if r.left.same(frame, held) {
			r.keep(f, extent{x.from, frame.from}, b[:n])
			r.c.diff.fits(frameRef{r.left.pack + frame.pack, frame.frame})
			r.c.verify(f.Path, held, frame.from)
			r.c.leave(f.entry, frame.extent)
		} else {
			r.keep(f, extent{x.from, frame.to}, b[:n+frame.to-frame.from])
		}
		x.from, b = frame.to, b[n+frame.to-frame.from:]
	}
	r.keep(f, x, b)
}

// storeAnew receives an extent of a file that is to be stored.
func (r *receiver) storeAnew(ctx context.Context, f received, x extent) error {
	for x.from < x.to {
		_, isLogged := logged(f.Path)
		n := min(r.out.room(isLogged), x.to-x.from)
		b, err := r.window(ctx, f, n)
		if err != nil {
			return err
		}
		r.keep(f, extent{x.from, x.from + n}, b)
		x.from += n
	}
	return nil
}

// skip receives what is not stored.
func (r *receiver) skip(ctx context.Context, f received, n int64) error {
	for n > 0 {
		b, err := r.window(ctx, f, min(n, sentUnit))
		if err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// window receives the next n bytes of a file, sentUnit at most, in memory that is the next window's too, but for what is
// kept of it.
func (r *receiver) window(ctx context.Context, f received, n int64) ([]byte, error) {
	_, isLogged := logged(f.Path)
	b, err := r.out.window(ctx, isLogged, n)
	if err != nil {
		return nil, err
	}
	for rest := b; len(rest) > 0; {
		part := rest[:min(len(rest), r.c.pace.Piece())]
		if err := r.c.pace.Wait(ctx, len(part)); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(r.from, part); err != nil {
			return nil, err
		}
		r.c.read.Add(int64(len(part)))
		rest = rest[len(part):]
	}
	return b, nil
}

// keep has a part of the window stored as an extent of a file.
func (r *receiver) keep(f received, x extent, b []byte) {
	if len(b) == 0 {
		return
	}
	_, isLogged := logged(f.Path)
	r.out.keep(isLogged, sentSpan{file: f.entry, path: f.Path, off: x.from, data: b})
	r.c.leave(f.entry, x)
}
