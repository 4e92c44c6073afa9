package repo

import (
	"context"
	"time"
)

func (r *retrying) Create(ctx context.Context, key string) (Writer, error) {
	const op = "create"
	for a := r.attempts(ctx, op, key); ; {
		g := r.guard(ctx)
		var w Writer
		err := g.during(op, key, r.o.Stall, func() (err error) {
			w, err = r.s.Create(g.ctx, key)
			return err
		})
		if err == nil {
			return &retryWriter{r: r, ctx: ctx, key: key, w: w, guard: g}, nil
		}
		g.end()
		if !a.again(err) {
			return nil, a.last(err)
		}
	}
}

// repeatable is a Writer that may hold its content after Commit has failed. Again readies it for another Commit, under a
// context of its own; it is false when the content cannot be sent any more.
type repeatable interface {
	Again(ctx context.Context) bool
}

// retryWriter commits its object as often as it takes.
type retryWriter struct {
	r     *retrying
	ctx   context.Context
	key   string
	w     Writer
	guard *guard
	n     int64 // bytes written, until it is done with
}

// limit is how long the store may take for what was written, here and by others that may have to share an uplink with
// it. How far a request has come cannot be seen from here, since drivers read the body ahead. So what was sent in vain
// before has twice as long each time, or a slow uplink would never be done.
func (w *retryWriter) limit(before int) time.Duration {
	n := max(w.n, min(w.r.written.Load(), maxShared))
	return w.r.o.Stall + (time.Duration(n/slowest)*time.Second)<<min(before, maxDoubled)
}

// count counts what was written to this writer, and uncount what there was once it is done with.
func (w *retryWriter) count(n int) {
	w.n += int64(n)
	w.r.written.Add(int64(n))
}

func (w *retryWriter) uncount() {
	w.r.written.Add(-w.n)
	w.n = 0
}

func (w *retryWriter) Write(p []byte) (n int, err error) {
	w.count(len(p))
	err = w.guard.during("write", w.key, w.limit(0), func() (err error) {
		n, err = w.w.Write(p)
		return err
	})
	return n, err
}

func (w *retryWriter) Commit() (info Info, err error) {
	const op = "commit"
	a := w.r.attempts(w.ctx, op, w.key)
	for before := 0; ; before++ {
		err = w.guard.during(op, w.key, w.limit(before), func() (err error) {
			info, err = w.w.Commit()
			return err
		})
		if err == nil {
			w.uncount()
		}
		if err == nil || vain(err) {
			return info, err
		}
		again, ok := w.w.(repeatable)
		if !ok {
			return info, err
		}
		next := w.r.guard(w.ctx)
		ready := again.Again(next.ctx)
		w.guard.end()
		w.guard = next
		if !ready || !a.again(err) {
			return info, a.last(err)
		}
	}
}

func (w *retryWriter) Close() error {
	err := w.w.Close()
	w.guard.end()
	w.uncount()
	return err
}
