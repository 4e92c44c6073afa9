package durable

import "os"

// writebackStep is how many bytes are gathered before the kernel is asked to write them.
const writebackStep = 1 << 20

// Writer writes a file from its start to its end, and has what it has written brought to disk while more comes, so that
// syncing at the end has less to wait for.
type Writer struct {
	f           *os.File
	size, asked int64
}

// NewWriter returns a Writer of an empty file.
func NewWriter(f *os.File) *Writer { return &Writer{f: f} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.size += int64(n)
	if w.size-w.asked >= writebackStep {
		StartWriteback(w.f, w.asked, w.size-w.asked)
		w.asked = w.size
	}
	return n, err
}
