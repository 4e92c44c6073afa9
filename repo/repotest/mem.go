package repotest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/repo"
)

// MemOptions are the options of [Mem]. A nil *MemOptions, and the zero value of each field, is its default.
type MemOptions struct {
	// Now is the clock that stamps an object when it is committed; it need not be safe for concurrent use. By default
	// the first object is of 2000-01-01 00:00:00 UTC and each one is a second younger than the one before.
	Now func() time.Time
}

// Mem returns an empty Store in memory. It is as strict as the strictest of the others: a key that is also a folder of
// another key is refused with a *[repo.KeyError].
func Mem(o *MemOptions) repo.Store {
	m := &mem{objects: map[string]object{}, now: ticker()}
	if o != nil && o.Now != nil {
		m.now = o.Now
	}
	return m
}

// ticker returns a clock that goes on by a second each time it is asked.
func ticker() func() time.Time {
	t := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Second)
	return func() time.Time {
		t = t.Add(time.Second)
		return t
	}
}

type mem struct {
	mu      sync.Mutex
	now     func() time.Time
	objects map[string]object
	keys    []string // of objects, sorted
}

// object is never changed once it is in a mem.
type object struct {
	info repo.Info
	data []byte
}

func (m *mem) Create(ctx context.Context, key string) (repo.Writer, error) {
	if err := check(ctx, "create", key); err != nil {
		return nil, err
	}
	return &memWriter{ctx: ctx, m: m, key: key}, nil
}

func (m *mem) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	o, err := m.get(ctx, "open", key)
	if err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("open %s: offset %d: %w", key, off, fs.ErrInvalid)
	}
	if n < 0 {
		n = math.MaxInt64
	}
	data := o.data[min(off, o.info.Size):]
	return &memBody{ctx: ctx, key: key, r: bytes.NewReader(data[:min(n, int64(len(data)))])}, nil
}

func (m *mem) Stat(ctx context.Context, key string) (repo.Info, error) {
	o, err := m.get(ctx, "stat", key)
	return o.info, err
}

func (m *mem) List(ctx context.Context, prefix string) iter.Seq2[repo.Info, error] {
	return func(yield func(repo.Info, error) bool) {
		if err := repo.CheckPrefix(prefix); err != nil {
			yield(repo.Info{}, err)
			return
		}
		for after := ""; ; {
			if err := ctx.Err(); err != nil {
				yield(repo.Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			info, ok := m.next(prefix, after)
			if !ok || !yield(info, nil) {
				return
			}
			after = info.Key
		}
	}
}

// next returns the first object after the key after that begins with prefix. The lock is not held between two of a
// listing, so that its reader may use the store.
func (m *mem) next(prefix, after string) (repo.Info, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := slices.BinarySearch(m.keys, max(prefix, after))
	if found && after != "" && m.keys[i] == after {
		i++
	}
	if i == len(m.keys) || !strings.HasPrefix(m.keys[i], prefix) {
		return repo.Info{}, false
	}
	return m.objects[m.keys[i]].info, true
}

func (m *mem) Delete(ctx context.Context, key string) error {
	if err := check(ctx, "delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	if i, found := slices.BinarySearch(m.keys, key); found {
		m.keys = slices.Delete(m.keys, i, i+1)
	}
	return nil
}

func (m *mem) get(ctx context.Context, op, key string) (object, error) {
	if err := check(ctx, op, key); err != nil {
		return object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return object{}, &fs.PathError{Op: op, Path: key, Err: fs.ErrNotExist}
	}
	return o, nil
}

// put adds an object, unless its key is taken or cannot stand beside the keys there are.
func (m *mem) put(key string, data []byte) (repo.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok {
		return repo.Info{}, &fs.PathError{Op: "commit", Path: key, Err: fs.ErrExist}
	}
	for i := range key {
		if key[i] != '/' {
			continue
		}
		if _, ok := m.objects[key[:i]]; ok {
			return repo.Info{}, &repo.KeyError{Key: key, Reason: "lies under another object as if that were a folder"}
		}
	}
	if i, _ := slices.BinarySearch(m.keys, key+"/"); i < len(m.keys) && strings.HasPrefix(m.keys[i], key+"/") {
		return repo.Info{}, &repo.KeyError{Key: key, Reason: "is a folder of other objects"}
	}
	o := object{info: repo.Info{Key: key, Size: int64(len(data)), ModTime: m.now()}, data: data}
	m.objects[key] = o
	i, _ := slices.BinarySearch(m.keys, key)
	m.keys = slices.Insert(m.keys, i, key)
	return o.info, nil
}

func check(ctx context.Context, op, key string) error {
	if err := repo.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	return nil
}

type memWriter struct {
	ctx  context.Context
	m    *mem
	key  string
	data []byte
	err  error // of what is called next
}

func (w *memWriter) Write(p []byte) (int, error) {
	if err := w.check("write"); err != nil {
		return 0, err
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *memWriter) Commit() (repo.Info, error) {
	if err := w.check("commit"); err != nil {
		return repo.Info{}, err
	}
	w.err = fs.ErrClosed
	return w.m.put(w.key, w.data)
}

func (w *memWriter) Close() error {
	w.err = fs.ErrClosed
	return nil
}

func (w *memWriter) check(op string) error {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil {
		return fmt.Errorf("%s %s: %w", op, w.key, w.err)
	}
	return nil
}

type memBody struct {
	ctx context.Context
	key string
	r   io.Reader
}

func (b *memBody) Read(p []byte) (int, error) {
	err := b.ctx.Err()
	if err == nil && b.r == nil {
		err = fs.ErrClosed
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", b.key, err)
	}
	return b.r.Read(p)
}

func (b *memBody) Close() error {
	b.r = nil
	return nil
}
