package repotest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/pgcairn/pgcairn/repo"
)

// Effect is what a [Fault] does to a call. The zero Effect is Fail(nil).
type Effect struct {
	kind kind
	n    int64
	err  error
}

type kind int

const (
	fail kind = iota
	failAfter
	stall
	cut
	truncate
	flip
)

// Fail makes a call fail with err, or [ErrInjected] when err is nil, without doing anything.
func Fail(err error) Effect { return Effect{kind: fail, err: err} }

// FailAfter lets a call do all it does and makes it fail then: the answer is lost. A Commit that fails so has committed
// the object.
func FailAfter(err error) Effect { return Effect{kind: failAfter, err: err} }

// Stall makes a call wait for the end of its context, or of that of the Create or Open before it, and fail with the
// context's error.
func Stall() Effect { return Effect{kind: stall} }

// Cut stops something in the middle. The body of an OpOpen breaks off with io.ErrUnexpectedEOF after n bytes; an
// OpWrite writes its first n bytes and fails with [ErrInjected]; an OpList fails so after n objects. What has less than
// that is left as it is.
func Cut(n int64) Effect { return Effect{kind: cut, n: n} }

// Truncate makes the body of an OpOpen that of an object of which no more than the first n bytes are left: it ends
// there without an error.
func Truncate(n int64) Effect { return Effect{kind: truncate, n: n} }

// Flip flips the lowest bit of the byte at offset off of the object that an OpOpen reads, whatever range it reads.
func Flip(off int64) Effect { return Effect{kind: flip, n: off} }

// applies tells the operations that an effect, if not for all, is for.
func (e Effect) applies(op Operation) bool {
	switch e.kind {
	case cut:
		return slices.Contains([]Operation{OpOpen, OpWrite, OpList}, op)
	case truncate, flip:
		return op == OpOpen
	}
	return true
}

// mishap is all that befalls one call.
type mishap struct {
	ctx     context.Context
	op      Operation
	key     string
	effects []Effect
}

func (m *mishap) fail(err error) error {
	if err == nil {
		err = ErrInjected
	}
	return fmt.Errorf("%s %s: %w", m.op, m.key, err)
}

// before does what happens before the call, and instead of it when it returns an error.
func (m *mishap) before() error {
	for _, e := range m.effects {
		switch {
		case !e.applies(m.op):
			return m.fail(errors.New("repotest: the effect of this fault is not for " + string(m.op)))
		case e.kind == fail:
			return m.fail(e.err)
		case e.kind == stall:
			<-m.ctx.Done()
			return m.fail(m.ctx.Err())
		}
	}
	return nil
}

// after does what happens after the call.
func (m *mishap) after() error {
	for _, e := range m.effects {
		if e.kind == failAfter {
			return m.fail(e.err)
		}
	}
	return nil
}

// cut returns after how much the call is cut off.
func (m *mishap) cut() int64 {
	n := int64(math.MaxInt64)
	for _, e := range m.effects {
		if e.kind == cut {
			n = min(n, e.n)
		}
	}
	return n
}

// spoil does to a body, which begins at offset off of its object, what is done to its bytes.
func (m *mishap) spoil(body io.Reader, off int64) io.Reader {
	for _, e := range m.effects {
		switch e.kind {
		case cut:
			body = &severed{r: body, left: e.n}
		case truncate:
			body = io.LimitReader(body, max(0, e.n-off))
		case flip:
			body = &flipped{r: body, left: e.n - off}
		}
	}
	return body
}

// severed breaks off after a number of bytes.
type severed struct {
	r    io.Reader
	left int64
}

func (s *severed) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.r.Read(p[:min(s.left, int64(len(p)))])
	if s.left -= int64(n); s.left == 0 {
		err = nil // whatever came with the last byte, the next Read tells of the break
	}
	return n, err
}

// flipped flips a bit once it has come to it.
type flipped struct {
	r    io.Reader
	left int64 // bytes before the one with the bit; negative when that is behind
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.left >= 0 && f.left < int64(n) {
		p[f.left] ^= 1
	}
	f.left -= int64(n)
	return n, err
}

type faultWriter struct {
	ctx context.Context
	s   *FaultStore
	key string
	w   repo.Writer
}

func (w *faultWriter) Write(p []byte) (int, error) {
	m := w.s.meet(w.ctx, OpWrite, w.key)
	if err := m.before(); err != nil {
		return 0, err
	}
	short := min(m.cut(), int64(len(p)))
	n, err := w.w.Write(p[:short])
	if err == nil && n < len(p) {
		err = m.fail(ErrInjected)
	}
	if err == nil {
		err = m.after()
	}
	return n, err
}

func (w *faultWriter) Commit() (repo.Info, error) {
	m := w.s.meet(w.ctx, OpCommit, w.key)
	if err := m.before(); err != nil {
		return repo.Info{}, err
	}
	info, err := w.w.Commit()
	if err == nil {
		err = m.after()
	}
	if err != nil {
		return repo.Info{}, err
	}
	return info, nil
}

func (w *faultWriter) Close() error { return w.w.Close() }

type faultBody struct {
	io.Closer

	ctx context.Context
	s   *FaultStore
	key string
	r   io.Reader
}

func (b *faultBody) Read(p []byte) (int, error) {
	m := b.s.meet(b.ctx, OpRead, b.key)
	if err := m.before(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if err == nil {
		err = m.after()
	}
	return n, err
}
