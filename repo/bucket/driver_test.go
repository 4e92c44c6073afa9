package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// scripted is a bucket driver that misbehaves in the ways that the real ones were seen to.
type scripted struct {
	driver.Bucket // nil: what is not scripted panics

	mu      sync.Mutex
	objects map[string][]byte
	log     []string // requests

	// Hooks, each nil or able to replace the answer of a request by returning an error.
	attributes func(name string) error
	read       func(name string, off, n int64) error
	list       func(prefix string) error
	remove     func(name string) error
	upload     func(name string) error

	body    func(off int64, r io.Reader) io.Reader // may replace a body
	listing func([]string) []string                // may replace the listed names
	options []driver.WriterOptions                 // of the uploads
}

func (d *scripted) bucket() *blob.Bucket { return blob.NewBucket(d) }

// scriptedTime is when each object was made.
var scriptedTime = time.Unix(1, 0)

// coded is a driver's error with the category that the driver has for it.
type coded struct {
	error
	code gcerrors.ErrorCode
}

func (e coded) Unwrap() error { return e.error }

// s3Error is an error that has the method of the AWS SDK's errors.
type s3Error string

func (e s3Error) Error() string     { return "api error " + string(e) }
func (e s3Error) ErrorCode() string { return string(e) }

func notFound(message string) error { return coded{errors.New(message), gcerrors.NotFound} }

func (d *scripted) ErrorCode(err error) gcerrors.ErrorCode {
	var c coded
	if errors.As(err, &c) {
		return c.code
	}
	return gcerrors.Unknown
}

func (d *scripted) Close() error { return nil }

// request logs a request and asks the hook about it.
func (d *scripted) request(hook func() error, words ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, strings.Join(words, " "))
	return hook()
}

func (d *scripted) get(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, ok := d.objects[name]
	if !ok {
		return nil, notFound("no such object")
	}
	return data, nil
}

func (d *scripted) Attributes(_ context.Context, name string) (*driver.Attributes, error) {
	err := d.request(func() error {
		if d.attributes == nil {
			return nil
		}
		return d.attributes(name)
	}, "HEAD", name)
	if err != nil {
		return nil, err
	}
	data, err := d.get(name)
	if err != nil {
		return nil, err
	}
	return &driver.Attributes{Size: int64(len(data)), ModTime: scriptedTime}, nil
}

func (d *scripted) NewRangeReader(_ context.Context, name string, off, n int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	err := d.request(func() error {
		if d.read == nil {
			return nil
		}
		return d.read(name, off, n)
	}, "GET", name)
	if err != nil {
		return nil, err
	}
	data, err := d.get(name)
	if err != nil {
		return nil, err
	}
	size := int64(len(data))
	if n < 0 && off == 0 {
		n = size
	} else if off >= size {
		return nil, errors.New("416 Requested Range Not Satisfiable")
	}
	if n < 0 || n > size-off {
		n = size - off
	}
	var r io.Reader = bytes.NewReader(data[off : off+n])
	if d.body != nil {
		r = d.body(off, r)
	}
	return &scriptedBody{Reader: r, size: size}, nil
}

type scriptedBody struct {
	io.Reader

	size int64
}

func (b *scriptedBody) Close() error { return nil }
func (b *scriptedBody) As(any) bool  { return false }
func (b *scriptedBody) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{Size: b.size}
}

func (d *scripted) ListPaged(_ context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	err := d.request(func() error {
		if name := path.Base(o.Prefix); name == ".." || name == "." && o.Prefix != "" { // MinIO
			return errors.New("resource name contains bad components")
		}
		if d.list == nil {
			return nil
		}
		return d.list(o.Prefix)
	}, "LIST", o.Prefix)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	names := slices.Sorted(maps.Keys(d.objects))
	if d.listing != nil {
		names = d.listing(names)
	}
	page := &driver.ListPage{}
	for _, name := range names {
		if strings.HasPrefix(name, o.Prefix) && (o.PageSize == 0 || len(page.Objects) < o.PageSize) {
			page.Objects = append(page.Objects, &driver.ListObject{Key: name, Size: int64(len(d.objects[name])), ModTime: scriptedTime})
		}
	}
	return page, nil
}

func (d *scripted) Delete(_ context.Context, name string, _ *driver.DeleteOptions) error {
	err := d.request(func() error {
		if d.remove == nil {
			return nil
		}
		return d.remove(name)
	}, "DELETE", name)
	if err != nil {
		return err
	}
	if _, err := d.get(name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.objects, name)
	return nil
}

func (d *scripted) NewTypedWriter(ctx context.Context, name, _ string, o *driver.WriterOptions) (driver.Writer, error) {
	d.mu.Lock()
	d.options = append(d.options, *o)
	d.mu.Unlock()
	if o.BeforeWrite != nil {
		if err := o.BeforeWrite(func(any) bool { return false }); err != nil {
			return nil, err
		}
	}
	return &scriptedWriter{d: d, ctx: ctx, name: name}, nil
}

// scriptedWriter finishes its object at Close, also after a read from the source has failed, as gcsblob's does.
type scriptedWriter struct {
	d    *scripted
	ctx  context.Context
	name string
	buf  bytes.Buffer
}

func (w *scriptedWriter) Write(p []byte) (int, error) { return w.buf.Write(p) }

func (w *scriptedWriter) Close() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.d.request(func() error {
		if w.d.upload != nil {
			if err := w.d.upload(w.name); err != nil {
				return err
			}
		}
		if _, ok := w.d.objects[w.name]; ok {
			return coded{errors.New("412 Precondition Failed"), gcerrors.FailedPrecondition}
		}
		if w.d.objects == nil {
			w.d.objects = map[string][]byte{}
		}
		w.d.objects[w.name] = bytes.Clone(w.buf.Bytes())
		return nil
	}, "PUT", w.name)
}
