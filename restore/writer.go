package restore

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/repo"
)

// fileWriter writes pieces of files. It keeps the last one open, since most pieces belong to the same as the one before.
type fileWriter struct {
	d    *destination
	file int // that is open
	open *os.File
	old  []byte // what was there, where files are used again
}

func (d *destination) writer() *fileWriter { return &fileWriter{d: d} }

// write makes a file, by its index in the manifest, have bytes at an offset, and returns how many it had not yet.
func (w *fileWriter) write(file int, b []byte, off int64) (written int, err error) {
	if w.open == nil || w.file != file {
		if err := w.close(); err != nil {
			return 0, err
		}
		f, err := w.d.openFile(file)
		if err != nil {
			return 0, err
		}
		w.file, w.open = file, f
	}
	w.d.sums.add(file, &w.d.manifest.FileList[file], b, off)
	if !w.d.reuse {
		return len(b), w.put(b, off)
	}
	// Of a frame that has changed most pages have not: to write them again is what would take the time.
	old := w.there(len(b), off)
	for from, end := range differing(b, old) {
		if err := w.put(b[from:end], off+int64(from)); err != nil {
			return written, err
		}
		written += end - from
	}
	return written, nil
}

func (w *fileWriter) put(b []byte, off int64) error {
	if _, err := w.open.WriteAt(b, off); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	durable.StartWriteback(w.open, off, int64(len(b)))
	return nil
}

// there returns what the file holds of n bytes at an offset. What cannot be read is not there.
func (w *fileWriter) there(n int, off int64) []byte {
	if cap(w.old) < n {
		w.old = make([]byte, max(n, repo.FrameSize))
	}
	n, _ = w.open.ReadAt(w.old[:n], off)
	return w.old[:n]
}

// comparedAt is how many bytes are compared, and written, at a time: what the kernel writes to disk at once.
const comparedAt = 4096

// differing yields the ranges of b in which the bytes that are there differ, or end.
func differing(b, there []byte) iter.Seq2[int, int] {
	return func(yield func(from, end int) bool) {
		from := -1
		for at := 0; at < len(b); at += comparedAt {
			end := min(at+comparedAt, len(b))
			same := end <= len(there) && bytes.Equal(b[at:end], there[at:end])
			if same && from >= 0 {
				if !yield(from, at) {
					return
				}
				from = -1
			} else if !same && from < 0 {
				from = at
			}
		}
		if from >= 0 {
			yield(from, len(b))
		}
	}
}

func (w *fileWriter) close() error {
	if w.open == nil {
		return nil
	}
	f := w.open
	w.open = nil
	if err := f.Close(); err != nil {
		return errors.Join(errors.New("restore: close a file"), err)
	}
	return nil
}
