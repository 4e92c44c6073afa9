package restore

import (
	"errors"
	"fmt"
	"os"

	"github.com/pgcairn/pgcairn/internal/durable"
)

// fileWriter writes pieces of files. It keeps the last one open, since most pieces belong to the same as the one before.
type fileWriter struct {
	d    *destination
	file int // that is open
	open *os.File
}

func (d *destination) writer() *fileWriter { return &fileWriter{d: d} }

// write writes bytes of a file, by its index in the manifest.
func (w *fileWriter) write(file int, b []byte, off int64) error {
	if w.open == nil || w.file != file {
		if err := w.close(); err != nil {
			return err
		}
		f, err := w.d.openFile(file)
		if err != nil {
			return err
		}
		w.file, w.open = file, f
	}
	n, err := w.open.WriteAt(b, off)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	w.d.sums.add(file, &w.d.manifest.FileList[file], b, off)
	durable.StartWriteback(w.open, off, int64(n))
	return nil
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
