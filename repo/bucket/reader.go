package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"gocloud.dev/blob"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// rereads is how often one body is fetched again from where it broke off, or one page of a listing.
const rereads = 4

func (s *store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	const op = "open"
	name, err := s.name(key)
	if err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, objerr.Failed(ctx, op, key, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid))
	}
	if n > math.MaxInt64-off {
		n = -1
	}
	r := &reader{ctx: ctx, s: s, key: key, name: name, pos: off, end: off}
	if n == 0 {
		// Drivers differ in what they make of an empty range; only whether the object exists is of interest.
		_, err := s.Stat(ctx, key)
		return r, err
	}
	err = s.ask(ctx, op, key, func() (err error) {
		r.body, err = s.b.NewRangeReader(ctx, name, off, n, nil)
		return err
	})
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
			// Services refuse a range that begins at or after the end, each in its own way.
			if info, statErr := s.Stat(ctx, key); statErr == nil && off >= info.Size {
				return r, nil
			}
		}
		return nil, err
	}
	r.size = r.body.Size()
	r.end = max(off, r.size)
	if n > 0 {
		r.end = min(r.end, off+n)
	}
	return r, nil
}

// reader reads a range of an object, and goes on with another request where a body breaks off. That is safe as
// objects never change.
type reader struct {
	ctx      context.Context
	s        *store
	key      string
	name     string
	body     *blob.Reader // nil for an empty range, and once closed
	pos, end int64        // offsets in the object
	size     int64        // of the object
	again    int          // times the body was fetched again
	err      error        // what the next Read fails with
}

// Size is the size of the object, or -1 when no request has told. repo.Retry compares it.
func (r *reader) Size() int64 {
	if r.size == 0 {
		return -1
	}
	return r.size
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		switch {
		case r.err != nil:
			return 0, r.err
		case r.ctx.Err() != nil:
			return 0, r.fail(r.ctx.Err())
		case r.pos == r.end:
			return 0, io.EOF
		case r.body == nil:
			return 0, r.fail(fs.ErrClosed)
		case len(p) == 0:
			return 0, nil
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.pos)])
		r.pos += int64(n)
		if err != nil && r.pos < r.end {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			r.resume(err)
		}
		if n > 0 || err == nil {
			return n, nil
		}
	}
}

// resume fetches the rest of a body that broke off with the error cause. When it cannot, the next Read fails.
func (r *reader) resume(cause error) {
	for r.again < rereads && r.ctx.Err() == nil {
		r.again++
		body, err := r.s.b.NewRangeReader(r.ctx, r.name, r.pos, r.end-r.pos, nil)
		if err != nil {
			cause = errors.Join(cause, err)
			continue
		}
		if body.Size() != r.size {
			_ = body.Close()
			cause = errors.Join(cause, fmt.Errorf("the object was of %d bytes and is of %d now", r.size, body.Size()))
			break
		}
		_ = r.body.Close()
		r.body = body
		return
	}
	_ = r.fail(cause)
}

func (r *reader) fail(err error) error {
	r.err = objerr.Failed(r.ctx, "read", r.key, err)
	return r.err
}

func (r *reader) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	if err != nil {
		return objerr.Failed(r.ctx, "close", r.key, err)
	}
	return nil
}
