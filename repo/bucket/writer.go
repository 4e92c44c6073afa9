package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/pgcairn/pgcairn/internal/objerr"
	"github.com/pgcairn/pgcairn/repo"
)

// conflictWait is the first of the waits, each twice the one before, after a service was too busy with a rival's write
// of the same object to say who has won.
const (
	conflictWait  = 50 * time.Millisecond
	conflictTries = 6
)

// Create sends nothing: the object's first bytes leave when the buffer is full or with Commit.
func (s *store) Create(ctx context.Context, key string) (repo.Writer, error) {
	name, err := s.name(key)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, objerr.Failed(ctx, "create", key, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	return &writer{ctx: ctx, cancel: cancel, s: s, key: key, name: name}, nil
}

// writer collects an object in memory and sends it at Commit. One that outgrows the buffer is sent by a goroutine
// while it is written, through a pipe; the goroutine ends in Commit or Close.
//
// Everything goes through Bucket.Upload: azureblob's writers panic when the service refuses to overwrite.
type writer struct {
	ctx    context.Context
	cancel context.CancelFunc
	s      *store
	key    string
	name   string
	buf    []byte
	n      int64 // bytes written
	pipe   *io.PipeWriter
	sent   chan struct{} // closed by the goroutine, when there is a pipe
	result error         // of the upload, once sent is closed
	err    error         // of the first Write that failed
	over   bool          // Commit was called
	closed bool
}

func (w *writer) Write(p []byte) (n int, err error) {
	switch {
	case w.closed || w.over:
		return 0, objerr.Closed("write", w.key)
	case w.err != nil:
		return 0, w.err
	}
	if err := w.ctx.Err(); err != nil {
		w.err = objerr.Failed(w.ctx, "write", w.key, err)
		return 0, w.err
	}
	if w.pipe == nil && len(p) <= w.s.o.BufferSize-len(w.buf) {
		w.buf = append(w.buf, p...)
		w.n += int64(len(p))
		return len(p), nil
	}
	if w.pipe == nil {
		w.stream()
	}
	n, err = w.pipe.Write(p)
	w.n += int64(n)
	if err != nil {
		w.err = w.failure("write", err)
	}
	return n, w.err
}

// stream begins to send the object while the rest of it is still being written.
func (w *writer) stream() {
	r, pipe := io.Pipe()
	body := io.MultiReader(bytes.NewReader(w.buf), r)
	w.pipe, w.sent = pipe, make(chan struct{})
	go func() {
		err := w.upload(body, max(w.s.o.BufferSize, minPart))
		_ = r.CloseWithError(err) // ends a Write that waits
		w.result = err
		close(w.sent)
	}()
}

// upload sends the object in parts of the given size, or in one request when it is smaller than that.
func (w *writer) upload(body io.Reader, part int) error {
	return w.s.b.Upload(w.ctx, w.name, body, &blob.WriterOptions{
		IfNotExist:     true,
		ContentType:    "application/octet-stream",
		BufferSize:     part,
		MaxConcurrency: 1, // more would hold more parts in memory
		BeforeWrite:    w.s.o.BeforeWrite,
	})
}

func (w *writer) Commit() (repo.Info, error) {
	if w.closed || w.over {
		return repo.Info{}, objerr.Closed("commit", w.key)
	}
	w.over = true
	info, err := w.commit()
	w.cancel()
	if err == nil {
		_ = w.Close() // which lets go of the buffer
	}
	return info, err
}

// Again readies the writer for another Commit, under a context of its own, after one has failed. It is false when the
// content is gone. repo.Retry calls it.
func (w *writer) Again(ctx context.Context) bool {
	if w.closed || !w.over || w.err != nil || w.sent != nil {
		return false
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	w.over = false
	return true
}

func (w *writer) commit() (repo.Info, error) {
	if w.err != nil {
		return repo.Info{}, w.err
	}
	err := w.ctx.Err()
	switch {
	case err != nil:
	case w.pipe == nil:
		err = w.put()
	default:
		_ = w.pipe.Close() // the end of the body
		<-w.sent
		err = w.result
		w.pipe = nil
	}
	if err != nil {
		return repo.Info{}, w.failure("commit", err)
	}
	return repo.Info{Key: w.key, Size: w.n}, nil
}

// put sends what is in the buffer.
func (w *writer) put() error {
	wait := conflictWait
	for try := 1; ; try++ {
		// One byte more than there are tells the driver that a single part holds them all.
		err := w.upload(bytes.NewReader(w.buf), len(w.buf)+1)
		if err == nil || try == conflictTries || !conflict(err) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait *= 2
		case <-w.ctx.Done():
			timer.Stop()
			return w.ctx.Err()
		}
	}
}

// failure makes the error of an upload one that repo.Store allows. A refusal stands unless the service says in the same
// breath that there is no object, as Azure's emulator does while parts of an aborted upload are there; credentials that
// may only write get no such second answer.
//
// An object that is there after an upload that was not permitted, or got no answer, is one that exists too. Object Lock
// may be what does not permit it: versitygw says so before it looks at the condition. Without an answer, either the answer
// was lost after the work was done; or it was a refusal, which a service may send and hang up before it has read a large
// body, so that the client's system drops it.
func (w *writer) failure(op string, err error) error {
	refused := refused(err)
	if !refused && (w.ctx.Err() != nil || answered(err)) {
		return objerr.Failed(w.ctx, op, w.key, denial(err))
	}
	_, statErr := w.s.Stat(w.ctx, w.key)
	switch {
	case refused && errors.Is(statErr, fs.ErrNotExist):
		err = fmt.Errorf("refused as existing, but there is no such object: %w", err)
	case refused || statErr == nil:
		return objerr.Taken(op, w.key, err)
	}
	return objerr.Failed(w.ctx, op, w.key, denial(err))
}

// answered tells whether an upload failed by an answer that nothing was written, whatever there is.
func answered(err error) bool {
	switch gcerrors.Code(err) {
	case gcerrors.NotFound, gcerrors.FailedPrecondition:
		return !denied(err)
	}
	return false
}

// refused tells whether a write failed because the object exists.
func refused(err error) bool {
	switch gcerrors.Code(err) {
	case gcerrors.AlreadyExists:
		return true
	case gcerrors.FailedPrecondition:
		// A closed bucket has this code too, but then no service has answered and there is nothing inside the error.
		var e interface {
			error
			Unwrap() []error
		}
		return errors.As(err, &e) && len(e.Unwrap()) > 0 && e.Unwrap()[0] != nil
	}
	return false
}

// conflict tells whether S3 could not decide between writes of one object at one time, and asks to repeat this one.
func conflict(err error) bool {
	code := serviceCode(err)
	return code == "ConditionalRequestConflict" || code == "OperationAborted"
}

// Close aborts unless Commit was called. The context must be cancelled before the body is cut: some drivers finish the
// object with what they have when reading it fails, unless their context has ended.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.cancel()
	if w.pipe != nil {
		_ = w.pipe.CloseWithError(context.Canceled)
		<-w.sent
	}
	w.buf = nil
	return nil
}
