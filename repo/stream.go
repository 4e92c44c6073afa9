package repo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// PutOptions are the options of [Repo.Put]; nil is their zero value.
type PutOptions struct {
	// Compression is how the content is compressed. A stream is zstd, whatever reads it: S2 is an error.
	Compression Compression

	// Label, when set, is asked once for up to 256 bytes that [Repo.Label] will return without reading the content or
	// holding a key. It is called while the content is being compressed, from another goroutine.
	Label func() ([]byte, error)

	// Notes, when set, is asked for up to 16 MiB that [Repo.Notes] will return without reading the content. It is
	// called once all content was written.
	Notes func() ([]byte, error)
}

// queued is how many compressed frames of a stream may wait to be written: a WAL segment of the usual size, whose label
// takes as long to compute as its frames to compress.
const queued = 16

// Put creates the object key with the content that write writes. The content is compressed, encrypted in an encrypted
// repository, and visible, whole and durable, once Put returns nil; when write or anything else fails nothing is left.
// A taken key is an error matching fs.ErrExist, maybe after the content was read.
//
// A store that repeats a request whose answer was lost takes the object of its first try for another's. So without a
// label, by which the caller can tell, what has the key is compared with what was written, and is success when it is
// the same to the last byte.
//
// What write writes to has a method Flush() error besides, which ends a frame before it is full.
//
// It takes up to a MiB of memory for each processor and 16 MiB besides; less when the content is small, or the store as
// fast as the compression.
func (r *Repo) Put(ctx context.Context, key string, o *PutOptions, write func(io.Writer) error) (Info, error) {
	if o == nil {
		o = &PutOptions{}
	}
	if _, err := ParseCompression(string(o.Compression)); err != nil {
		return Info{}, fmt.Errorf("repo: write %s: %w", key, err)
	}
	if o.Compression.codec() != CodecZstd {
		return Info{}, fmt.Errorf("repo: write %s: compression %s is for packs", key, o.Compression)
	}
	// The store's writer lives as long as Put, so it gets Put's context and not the group's, which Wait cancels.
	ctx, cancel := context.WithCancel(ctx)
	f := newFramer(ctx, r.enc, o.Compression)
	var s *sealer
	var complete bool
	// This also runs when write panics: nothing goes on, and nothing is committed.
	defer func() {
		cancel()
		f.end()
		_ = f.group.Wait()
		if s != nil {
			_ = s.Close()
		}
	}()
	f.group.Go(func() (err error) {
		var label []byte
		if o.Label != nil {
			if label, err = o.Label(); err != nil {
				return err
			}
		}
		if s, err = r.seal(ctx, key, label); err != nil {
			return err
		}
		err = f.drain(s.write)
		complete = err == nil
		return err
	})
	err := write(f)
	if err == nil {
		err = f.Flush()
	}
	if err != nil {
		f.group.Go(func() error { return err }) // which is the group's, unless something has failed before
	}
	f.end()
	if err := f.group.Wait(); err != nil {
		return Info{}, err
	}
	if !complete {
		return Info{}, fmt.Errorf("repo: write %s: its label was not made", key)
	}
	var notes []byte
	if o.Notes != nil {
		if notes, err = o.Notes(); err != nil {
			return Info{}, err
		}
		if notes, err = appendNotes(r.enc, key, notes); err != nil {
			return Info{}, err
		}
	}
	if err := s.end(skippableTail, notes); err != nil {
		return Info{}, err
	}
	return s.commit()
}

// Object reads the content of an object written by [Repo.Put]. It is used by one goroutine at a time.
type Object struct {
	u      *unsealer
	frames *unframer
	rest   []byte // of the piece that was read in part
	err    error
}

// OpenObject opens an object that [Repo.Put] wrote. A missing one is an error matching fs.ErrNotExist, and nothing
// else is. Whoever needs to be sure of the content reads up to io.EOF, which is returned only when every byte of the
// object was right; a wrong one is a *[CorruptError].
func (r *Repo) OpenObject(ctx context.Context, key string) (*Object, error) {
	return r.openObject(ctx, key, -1, r.dec)
}

// OpenFront opens the first n bytes, as stored, of an object. Its content ends early, in an error, unless the object is
// no longer than that; only whole frames are returned, and each is checked by itself.
func (r *Repo) OpenFront(ctx context.Context, key string, n int64) (*Object, error) {
	return r.openObject(ctx, key, n, r.lone)
}

func (r *Repo) openObject(ctx context.Context, key string, n int64, dec *zstd.Decoder) (*Object, error) {
	u, err := r.unseal(ctx, key, n)
	if err != nil {
		return nil, err
	}
	return &Object{u: u, frames: newUnframer(u.sum, dec)}, nil
}

// Label returns the label given when the object was written.
func (o *Object) Label() []byte { return o.u.head.label }

// Next returns the next piece of the content, up to [FrameSize] bytes, which are valid until the next call. It ends as
// Read does. Using it instead saves a copy.
func (o *Object) Next() ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	if b := o.rest; len(b) > 0 {
		o.rest = nil
		return b, nil
	}
	b, err := o.frames.next()
	switch {
	case errors.Is(err, io.EOF):
		if err = o.u.finish(); err == nil {
			err = io.EOF
		}
	case err != nil:
		err = o.u.fail(err)
	}
	o.err = err
	return b, err
}

// Read implements io.Reader.
func (o *Object) Read(p []byte) (n int, err error) {
	b, err := o.Next()
	n = copy(p, b)
	o.rest = b[n:]
	return n, err
}

// Close releases the object.
func (o *Object) Close() error {
	o.u.cancel()
	o.frames.close()
	return o.u.Close()
}

// Label reads the label of an object without reading the rest, and without a key in an encrypted repository. Damage is
// noticed, as a *[CorruptError]; but not forgery before the object itself is read. A missing object is an error matching
// fs.ErrNotExist.
func (r *Repo) Label(ctx context.Context, key string) ([]byte, error) {
	body, err := r.store.Open(ctx, key, 0, frontSize)
	if err != nil {
		return nil, fmt.Errorf("repo: open %s: %w", key, err)
	}
	defer body.Close()
	if r.keys == nil {
		u := &unsealer{key: key, body: body, watch: &watch{r: body}}
		if err := u.begin(ctx, nil, func(plain io.Reader) io.Reader { return plain }); err != nil {
			return nil, err
		}
		return u.head.label, nil
	}
	first, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("repo: read %s: %w", key, err)
	}
	f, err := readFront(r.keys.cipher, key, first)
	if err != nil {
		return nil, corrupt(key, "%w", err)
	}
	return f.label, nil
}
