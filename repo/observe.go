package repo

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// ErrAborted is the [Op].Err of a writer that was closed before Commit, when no write had failed.
var ErrAborted = errors.New("aborted: closed before Commit")

// Op tells of one call on an observed store.
type Op struct {
	Name  string        // "create", "open", "stat", "list" or "delete"
	Key   string        // the key, or the prefix of a list
	Bytes int64         // written by create, read by open, else 0
	Keys  int           // yielded by list, else 0: object stores take a request for every 1,000
	Took  time.Duration // from the call to its end
	Err   error         // what the call failed with; io.EOF is no failure
}

// Observe returns a Store that does what s does and tells f of every call: metrics hang here. There is one Op a call,
// when it has ended: create at the writer's Commit or Close, open at the body's Close, list when the loop is left.
//
// Under [Retry] each attempt is a call; over it what the caller has called is.
//
// f is called by the goroutine that made the call, before it goes on; from many goroutines at once when the store is
// used by many.
func Observe(s Store, f func(Op)) Store { return &observed{s: s, report: f} }

type observed struct {
	s      Store
	report func(Op)
}

// observation is a call under way.
type observation struct {
	report func(Op)
	op     Op
	start  time.Time
	ended  bool
}

func (o *observed) begin(name, key string) observation {
	return observation{report: o.report, op: Op{Name: name, Key: key}, start: now()}
}

// end reports the call, once, with the first error that was noted.
func (c *observation) end(err error) {
	if c.ended {
		return
	}
	c.ended = true
	c.note(err)
	c.op.Took = now().Sub(c.start)
	c.report(c.op)
}

func (c *observation) note(err error) {
	if c.op.Err == nil {
		c.op.Err = err
	}
}

func (o *observed) Create(ctx context.Context, key string) (Writer, error) {
	call := o.begin("create", key)
	w, err := o.s.Create(ctx, key)
	if err != nil {
		call.end(err)
		return nil, err
	}
	return &observedWriter{w: w, call: call}, nil
}

func (o *observed) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	call := o.begin("open", key)
	body, err := o.s.Open(ctx, key, off, n)
	if err != nil {
		call.end(err)
		return nil, err
	}
	return &observedBody{body: body, call: call}, nil
}

func (o *observed) Stat(ctx context.Context, key string) (Info, error) {
	call := o.begin("stat", key)
	info, err := o.s.Stat(ctx, key)
	call.end(err)
	return info, err
}

func (o *observed) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		call := o.begin("list", prefix)
		defer func() { call.end(nil) }()
		for info, err := range o.s.List(ctx, prefix) {
			call.note(err)
			if err == nil {
				call.op.Keys++
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func (o *observed) Delete(ctx context.Context, key string) error {
	call := o.begin("delete", key)
	err := o.s.Delete(ctx, key)
	call.end(err)
	return err
}

type observedWriter struct {
	w     Writer
	call  observation
	again bool // the next Commit is another call
}

// Again is for [Retry].
func (w *observedWriter) Again(ctx context.Context) bool {
	inner, ok := w.w.(repeatable)
	w.again = ok && inner.Again(ctx)
	return w.again
}

func (w *observedWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.call.op.Bytes += int64(n)
	w.call.note(err)
	return n, err
}

func (w *observedWriter) Commit() (Info, error) {
	if w.again {
		w.again = false
		w.call.op.Err, w.call.start, w.call.ended = nil, now(), false
	}
	info, err := w.w.Commit()
	if err == nil {
		w.call.op.Err = nil // a write that failed was made good
	}
	w.call.end(err)
	return info, err
}

func (w *observedWriter) Close() error {
	err := w.w.Close()
	w.call.note(err)
	w.call.end(ErrAborted)
	return err
}

type observedBody struct {
	body io.ReadCloser
	call observation
}

// Size is for [Retry].
func (b *observedBody) Size() int64 { return sizeOf(b.body) }

func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.call.op.Bytes += int64(n)
	if !errors.Is(err, io.EOF) {
		b.call.note(err)
	}
	return n, err
}

func (b *observedBody) Close() error {
	err := b.body.Close()
	b.call.end(err)
	return err
}
