package repo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// requestWorth is how many bytes are read rather than make another request: those that an object store sends in the time
// that it takes to answer one, and some more, since requests cost money.
const requestWorth = 4 << 20

// run is a run of frames of a pack that one request reads, wanted or not.
type run struct {
	first, end int   // frames
	at, n      int64 // bytes of the plaintext
}

// runsOf returns the runs that have all frames that are wanted, with no more between these than a request is worth.
func runsOf(p Pack, wanted []bool) []run {
	var runs []run
	at := int64(len(head{key: p.Key}.frame())) // packs have no label
	for i, f := range p.Frames {
		n := int64(f.Stored)
		if wanted[i] {
			if last := len(runs) - 1; last >= 0 && at-runs[last].at-runs[last].n <= requestWorth {
				runs[last].end, runs[last].n = i+1, at+n-runs[last].at
			} else {
				runs = append(runs, run{first: i, end: i + 1, at: at, n: n})
			}
		}
		at += n
	}
	return runs
}

// worthwhile tells whether reading runs takes less than reading all frames.
func worthwhile(p Pack, runs []run, encrypted bool) bool {
	cost, all := int64(len(runs)-1)*requestWorth, int64(0)
	if encrypted {
		cost += requestWorth / 2 // for the front and the last chunk, two small ones
	}
	for _, r := range runs {
		cost += r.n
	}
	for _, f := range p.Frames {
		all += int64(f.Stored)
	}
	return cost < all
}

// readRuns reads the frames that are wanted of a pack, and not the pack. Each is checked by its hash.
func (r *Repo) readRuns(ctx context.Context, p Pack, runs []run, wanted []bool, f func(i int, raw []byte) error) error {
	src := &forward{ctx: ctx, store: r.store, key: p.Key, size: p.Size, watch: &watch{}}
	defer src.close()
	plain := io.ReaderAt(src)
	if r.keys != nil {
		var err error
		if plain, _, err = r.plainAt(ctx, p.Key, src, p.Size, src.keep, src.fail); err != nil {
			return err
		}
	}
	var stored, raw []byte
	for _, run := range runs {
		// With what encryption adds, less than a thousandth, and a chunk of it on either side.
		src.reach = run.n
		if r.keys != nil {
			src.reach += run.n>>10 + 128<<10
		}
		at := run.at
		for i := run.first; i < run.end; i++ {
			frame := p.Frames[i]
			if wanted[i] {
				stored = grow(stored, frame.Stored)
				if err := readFullAt(plain, stored, at); err != nil {
					return src.fail(err)
				}
				var err error
				if raw, err = r.decode(frame, stored, raw); err != nil {
					return corrupt(p.Key, "frame %d: %w", i, err)
				}
				if err := f(i, raw); err != nil {
					return err
				}
			}
			at += int64(frame.Stored)
		}
	}
	return nil
}

// plainAt returns random access to the plaintext of an encrypted object that src reads, and its size. keep is given the
// front of the object, which is read once more.
func (r *Repo) plainAt(
	ctx context.Context, key string, src io.ReaderAt, size int64, keep func(front []byte), fail func(error) error,
) (io.ReaderAt, int64, error) {
	first := make([]byte, min(frontSize, size))
	if _, err := src.ReadAt(first, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fail(err)
	}
	keep(first)
	f, err := readFront(r.keys.cipher, key, first)
	if err != nil {
		return nil, 0, fail(err)
	}
	secret, err := r.keys.secret(ctx, f.id)
	if err != nil {
		return nil, 0, fmt.Errorf("repo: open %s: %w", key, err)
	}
	plain, n, err := r.keys.cipher.DecryptAt(src, size, secret)
	if err != nil {
		return nil, 0, fail(err)
	}
	return plain, n, nil
}

// forward reads an object at offsets that mostly ascend, by requests that reach further than what is asked for.
type forward struct {
	ctx   context.Context
	store Store
	key   string
	size  int64
	reach int64 // bytes that a request is for, at least
	watch *watch

	front    []byte
	body     io.ReadCloser // of the latest request
	at, end  int64         // of what is left of it
	answered bool          // the object is there
}

func (f *forward) keep(front []byte) { f.front = front }

// ReadAt implements io.ReaderAt, for one goroutine at a time.
func (f *forward) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), f.size-off)
	if off < 0 || n < 0 {
		return 0, io.EOF
	}
	if off+n <= int64(len(f.front)) {
		return f.ended(copy(p, f.front[off:off+n]), len(p))
	}
	if f.body == nil || off < f.at || off+n > f.end {
		if err := f.open(off, max(n, min(f.reach, f.size-off))); err != nil {
			return 0, err
		}
	}
	if skip := off - f.at; skip > 0 {
		if _, err := io.CopyN(io.Discard, f.watch, skip); err != nil {
			return 0, f.broken(err)
		}
	}
	got, err := io.ReadFull(f.watch, p[:n])
	f.at = off + int64(got)
	if err != nil {
		return got, f.broken(err)
	}
	return f.ended(got, len(p))
}

// ended returns how much was read; io.EOF when that is less than what was wanted.
func (f *forward) ended(n, want int) (int, error) {
	if n < want {
		return n, io.EOF
	}
	return n, nil
}

// broken gives a body up that has ended early.
func (f *forward) broken(err error) error {
	f.close()
	return unexpected(err)
}

func (f *forward) open(off, n int64) error {
	f.close()
	body, err := f.store.Open(f.ctx, f.key, off, n)
	if err != nil {
		if f.answered {
			// It was there a moment ago: its absence is no answer.
			err = objerr.Failed(f.ctx, "open", f.key, err)
		}
		f.watch.note(err)
		return err
	}
	f.answered = true
	f.body, f.at, f.end = body, off, off+n
	f.watch.r = body
	return nil
}

// fail tells a failure to read from bytes that are wrong.
func (f *forward) fail(err error) error {
	if failed := f.watch.failed(); failed != nil {
		return fmt.Errorf("repo: read %s: %w", f.key, failed)
	}
	return corrupt(f.key, "%w", err)
}

func (f *forward) close() {
	if f.body != nil {
		_ = f.body.Close()
		f.body = nil
	}
}
