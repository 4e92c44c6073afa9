package repo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// PutOptions are the options of [Repo.Put]; nil is their zero value.
type PutOptions struct {
	// Label, when set, is asked once for up to 256 bytes that [Repo.Label] will return without reading the content or
	// holding a key. It is called while the content is being compressed, from another goroutine.
	Label func() ([]byte, error)
}

// queued is how many frames of a stream may wait to be written, which bounds Put's memory to about twice as many MiB.
const queued = 16

// Put creates the object key with the content that write writes. The content is compressed, encrypted in an encrypted
// repository, and visible, whole and durable, once Put returns nil; when write or anything else fails nothing is left.
// A taken key is an error matching fs.ErrExist, maybe after the content was read.
func (r *Repo) Put(ctx context.Context, key string, o *PutOptions, write func(io.Writer) error) (Info, error) {
	if o == nil {
		o = &PutOptions{}
	}
	// The store's writer lives as long as Put, so it gets Put's context and not the group's, which Wait cancels.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	frames := make(chan chan []byte, queued)
	var s *sealer
	g.Go(func() (err error) {
		var label []byte
		if o.Label != nil {
			if label, err = o.Label(); err != nil {
				return err
			}
		}
		if s, err = r.seal(ctx, key, label); err != nil {
			return err
		}
		for f := range frames {
			if err := s.write(<-f); err != nil {
				return err
			}
		}
		return gctx.Err()
	})
	g.Go(func() error {
		defer close(frames)
		w := &framer{ctx: gctx, group: g, enc: r.enc, frames: frames}
		if err := write(w); err != nil {
			return err
		}
		return w.flush()
	})
	err := g.Wait()
	if s != nil {
		defer s.Close()
	}
	if err != nil {
		return Info{}, err
	}
	return s.commit(nil)
}

// framer cuts what is written to it into frames and has them compressed beside each other.
type framer struct {
	ctx    context.Context
	group  *errgroup.Group
	enc    *zstd.Encoder
	frames chan<- chan []byte
	buf    []byte
}

func (f *framer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if f.buf == nil {
			f.buf = make([]byte, 0, FrameSize)
		}
		k := min(len(p), cap(f.buf)-len(f.buf))
		f.buf = append(f.buf, p[:k]...)
		p, n = p[k:], n+k
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (f *framer) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	raw, done := f.buf, make(chan []byte, 1)
	f.buf = nil
	select {
	case f.frames <- done:
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	f.group.Go(func() error {
		done <- f.enc.EncodeAll(raw, nil)
		return nil
	})
	return nil
}

// Object reads the content of an object written by [Repo.Put]. It is used by one goroutine at a time.
type Object struct {
	u   *unsealer
	dec *zstd.Decoder
	err error
}

// OpenObject opens an object that [Repo.Put] wrote. A missing one is an error matching fs.ErrNotExist, and nothing
// else is. Whoever needs to be sure of the content reads up to io.EOF, which is returned only when every byte of the
// object was right; a wrong one is a *[CorruptError].
func (r *Repo) OpenObject(ctx context.Context, key string) (*Object, error) {
	return r.openObject(ctx, key, -1)
}

// OpenFront opens the first n bytes, as stored, of an object. Its content ends early, maybe in an error, and is checked
// frame by frame only.
func (r *Repo) OpenFront(ctx context.Context, key string, n int64) (*Object, error) {
	return r.openObject(ctx, key, n)
}

func (r *Repo) openObject(ctx context.Context, key string, n int64) (*Object, error) {
	u, err := r.unseal(ctx, key, n)
	if err != nil {
		return nil, err
	}
	dec, err := newStreamDecoder(u.sum)
	if err != nil {
		return nil, errors.Join(u.fail(err), u.Close())
	}
	return &Object{u: u, dec: dec}, nil
}

// Label returns the label given when the object was written.
func (o *Object) Label() []byte { return o.u.head.label }

// Read implements io.Reader.
func (o *Object) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.dec.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		if err = o.u.finish(); err == nil {
			err = io.EOF
		}
	case err != nil:
		err = o.u.fail(err)
	}
	o.err = err
	return n, err
}

// Close releases the object.
func (o *Object) Close() error {
	o.dec.Close()
	return o.u.Close()
}

// Label reads the label of an object without reading the rest, and without a key in an encrypted repository; there it
// is not authenticated before the object itself is read. A missing object is an error matching fs.ErrNotExist.
func (r *Repo) Label(ctx context.Context, key string) ([]byte, error) {
	body, err := r.store.Open(ctx, key, 0, frontSize)
	if err != nil {
		return nil, fmt.Errorf("repo: open %s: %w", key, err)
	}
	defer body.Close()
	if r.keys == nil {
		u := &unsealer{key: key, body: body, watch: &watch{r: body}}
		if err := u.begin(ctx, nil); err != nil {
			return nil, err
		}
		return u.head.label, nil
	}
	front, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("repo: read %s: %w", key, err)
	}
	_, label, err := splitFront(r.keys.cipher, front)
	if err != nil {
		return nil, corrupt(key, "%w", err)
	}
	return label, nil
}
