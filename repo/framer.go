package repo

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// framer cuts what is written to it into frames, which are compressed beside each other and drained in order.
type framer struct {
	ctx    context.Context
	group  *errgroup.Group
	enc    *zstd.Encoder
	buf    []byte           // of the frame being filled
	frames chan chan []byte // compressed, or being so
	end    func()           // closes frames

	// Memory that is used again. There is a raw buffer for each frame that can be compressed at a time and one being
	// filled.
	raw   chan []byte
	spare chan []byte
}

func newFramer(ctx context.Context, enc *zstd.Encoder) *framer {
	f := &framer{enc: enc, frames: make(chan chan []byte, queued), spare: make(chan []byte, queued)}
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
		k := min(len(p), FrameSize-len(f.buf))
		if need := len(f.buf) + k; need > cap(f.buf) {
			f.buf = slices.Grow(f.buf, min(max(need, 2*cap(f.buf)), FrameSize)-len(f.buf))
		}
		f.buf = append(f.buf, p[:k]...)
		p, n = p[k:], n+k
		if len(f.buf) == FrameSize {
			if err := f.Flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
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
		}
		done <- f.enc.EncodeAll(raw, dst[:0])
		f.raw <- raw[:0]
		return nil
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
