package repo

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// framer cuts what is written to it into frames, which are compressed beside each other and drained in order.
type framer struct {
	ctx         context.Context
	group       *errgroup.Group
	enc         encoders
	compression Compression
	buf         []byte           // of the frame being filled
	frames      chan chan []byte // compressed, or being so
	end         func()           // closes frames

	// Memory that is used again. There is a raw buffer for each frame that can be compressed at a time and one being
	// filled.
	raw   chan []byte
	spare chan []byte
}

func newFramer(ctx context.Context, enc encoders, c Compression) *framer {
	f := &framer{enc: enc, compression: c, frames: make(chan chan []byte, queued), spare: make(chan []byte, queued)}
	f.group, f.ctx = errgroup.WithContext(ctx)
	f.end = sync.OnceFunc(func() { close(f.frames) })
	n := runtime.GOMAXPROCS(0)
	f.raw = make(chan []byte, n+1)
	for range n {
		f.raw <- nil
	}
	return f
}

// Write implements io.Writer.
func (f *framer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		f.reserve(len(p))
		k := min(len(p), cap(f.buf)-len(f.buf))
		f.buf = append(f.buf, p[:k]...)
		p, n = p[k:], n+k
		if err := f.flushFull(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom: it saves a copy.
func (f *framer) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		f.reserve(firstRead)
		k, err := r.Read(f.buf[len(f.buf):min(cap(f.buf), len(f.buf)+maxRead)])
		f.buf = f.buf[:len(f.buf)+k]
		n += int64(k)
		if err == nil {
			err = f.flushFull()
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

const (
	firstRead = 64 << 10  // bytes; small content takes no more memory
	maxRead   = 256 << 10 // bytes at once, so that whoever looks at them on the way finds them in the processor's cache
)

// reserve makes room for n more bytes, or for what is missing to a whole frame. What is larger than at first thought
// gets a whole frame at once: memory is fresh once, and none is cleared or copied in vain.
func (f *framer) reserve(n int) {
	switch {
	case cap(f.buf) == 0:
		f.buf = make([]byte, 0, min(n, FrameSize))
	case len(f.buf)+n > cap(f.buf) && cap(f.buf) < FrameSize:
		f.buf = append(make([]byte, 0, FrameSize), f.buf...)
	}
}

func (f *framer) flushFull() error {
	if len(f.buf) < FrameSize {
		return nil
	}
	return f.Flush()
}

// Flush has what is in the buffer compressed as a frame, and takes another buffer.
func (f *framer) Flush() error {
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
		var dst []byte
		select {
		case dst = <-f.spare:
		default:
			// Grown by append, it would be copied and cleared at every step. What is not written to takes no memory.
			dst = make([]byte, 0, len(raw)+maxOverhead)
		}
		frame, err := f.enc.compress(f.compression, dst[:0], raw)
		done <- frame
		f.raw <- raw[:0]
		return err
	})
	select {
	case f.buf = <-f.raw:
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	return nil
}

// drain hands each compressed frame to write, until end was called.
func (f *framer) drain(write func([]byte) error) error {
	for done := range f.frames {
		frame := <-done
		if err := f.ctx.Err(); err != nil {
			return err
		}
		if err := write(frame); err != nil {
			return err
		}
		select {
		case f.spare <- frame:
		default:
		}
	}
	return f.ctx.Err()
}
