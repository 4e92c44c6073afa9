package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

func (r *retrying) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	b := &retryBody{r: r, ctx: ctx, key: key, off: off, n: n, attempts: r.attempts(ctx, "open", key)}
	if err := b.open(); err != nil {
		return nil, err
	}
	b.size, b.attempts = sizeOf(b.body), r.attempts(ctx, "read", key)
	return b, nil
}

// retryBody reads a range of an object, with as many requests as that takes.
type retryBody struct {
	r        *retrying
	ctx      context.Context
	key      string
	off, n   int64 // what is left of the range
	size     int64 // of the object, when the store tells, else -1
	attempts *attempts

	body  io.ReadCloser // nil after it broke off
	guard *guard
	cause error // it broke off with
	err   error // what the next Read fails with
}

// open opens the rest of the range.
func (b *retryBody) open() error {
	for {
		g := b.r.guard(b.ctx)
		var body io.ReadCloser
		err := g.during("open", b.key, b.r.o.Stall, func() (err error) {
			body, err = b.r.s.Open(g.ctx, b.key, b.off, b.n)
			return err
		})
		if err == nil {
			b.body, b.guard = body, g
			return nil
		}
		g.end()
		if !b.attempts.again(err) {
			return b.attempts.last(err)
		}
	}
}

func (b *retryBody) Read(p []byte) (int, error) {
	for {
		if b.err != nil {
			return 0, b.err
		}
		if b.body == nil {
			if b.err = b.resume(); b.err != nil {
				return 0, b.err
			}
		}
		var n int
		err := b.guard.during("read", b.key, b.r.o.Stall, func() (err error) {
			n, err = b.body.Read(p)
			return err
		})
		if n > 0 {
			b.attempts.progress()
			b.off += int64(n)
			if b.n > 0 {
				b.n -= int64(n)
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			b.release()
			b.cause, err = err, nil
			if b.n == 0 {
				b.err = io.EOF // all that was asked for has come
			}
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// resume goes on with a range that broke off.
func (b *retryBody) resume() error {
	if b.cause == nil {
		return objerr.Closed("read", b.key)
	}
	if !b.attempts.again(b.cause) {
		return objerr.Failed(b.ctx, "read", b.key, b.cause)
	}
	// That it is not there any more is no answer about an object of which there was a part.
	if err := b.open(); err != nil {
		return objerr.Failed(b.ctx, "read", b.key, errors.Join(b.cause, err))
	}
	if size := sizeOf(b.body); b.size >= 0 && size >= 0 && size != b.size {
		b.release()
		return objerr.Failed(b.ctx, "read", b.key, fmt.Errorf("the object was of %d bytes and is of %d now", b.size, size))
	}
	return nil
}

// sizeOf is the size of the object that a body is of, or -1 where its store does not tell.
func sizeOf(body io.ReadCloser) int64 {
	if s, ok := body.(interface{ Size() int64 }); ok {
		return s.Size()
	}
	return -1
}

// release lets go of the body.
func (b *retryBody) release() {
	_ = b.body.Close()
	b.guard.end()
	b.body = nil
}

func (b *retryBody) Close() error {
	if b.body == nil {
		b.cause, b.err = nil, nil
		return nil
	}
	err := b.body.Close()
	b.guard.end()
	b.body, b.cause = nil, nil
	return err
}

func (r *retrying) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		l := &retryList{r: r, ctx: ctx, prefix: prefix, attempts: r.attempts(ctx, "list", prefix), yield: yield}
		for {
			err := l.run()
			if err == nil || l.left {
				return
			}
			if !l.attempts.again(err) {
				yield(Info{}, l.attempts.last(err))
				return
			}
		}
	}
}

// retryList is a listing under way.
type retryList struct {
	r        *retrying
	ctx      context.Context
	prefix   string
	attempts *attempts
	yield    func(Info, error) bool
	last     string // yielded
	left     bool   // by the caller
}

// run lists what comes after the last key.
func (l *retryList) run() error {
	g := l.r.guard(l.ctx)
	defer g.end()
	g.wake(l.r.o.Stall)
	defer g.rest()
	for info, err := range l.r.s.List(g.ctx, l.prefix) {
		g.rest() // the caller may take its time
		if err != nil {
			return g.blame("list", l.prefix, l.r.o.Stall, err)
		}
		if info.Key > l.last {
			l.last = info.Key
			l.attempts.progress()
			if !l.yield(info, nil) {
				l.left = true
				return nil
			}
		}
		g.wake(l.r.o.Stall)
	}
	return nil
}
