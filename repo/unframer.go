package repo

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// readAhead is how many stored bytes of a stream are read at a time.
const readAhead = 256 << 10

// unframer is the reverse of framer: one goroutine reads the frames of a stream, others decompress them beside each
// other. They begin with the first call of next and end by themselves or by close.
type unframer struct {
	r       *bufio.Reader
	dec     *zstd.Decoder
	frames  chan chan unframed // being decompressed, in order; nil until begun
	stopped chan struct{}
	stop    func() // closes stopped
	last    []byte // memory of the frame that was handed out
	err     error  // after the last frame; for next alone

	// Memory that is used again, for raw and for stored frames. There is some for each frame that can be decompressed
	// at a time, and for one being read, waiting or handed out.
	raw, stored chan []byte
}

// unframed is a frame that has been decompressed, or what the reading of frames ended with.
type unframed struct {
	raw []byte
	err error
}

func newUnframer(r io.Reader, dec *zstd.Decoder) *unframer {
	f := &unframer{r: bufio.NewReaderSize(r, readAhead), dec: dec, stopped: make(chan struct{})}
	f.stop = sync.OnceFunc(func() { close(f.stopped) })
	return f
}

// next returns the content of the next frame, valid until it is called again, or io.EOF where the tail begins.
func (f *unframer) next() ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	if f.frames == nil {
		f.begin()
	} else if f.last != nil {
		f.raw <- f.last
	}
	u := <-<-f.frames
	f.last, f.err = u.raw, u.err
	return u.raw, u.err
}

func (f *unframer) begin() {
	n := runtime.GOMAXPROCS(0)
	f.frames = make(chan chan unframed, n)
	f.raw, f.stored = make(chan []byte, n+1), make(chan []byte, n+1)
	for range n + 1 {
		f.raw <- nil
		f.stored <- nil
	}
	go f.read()
}

// read reads frames and has them decompressed, until there are no more or it is stopped.
func (f *unframer) read() {
	defer close(f.frames)
	for {
		var stored, raw []byte
		select {
		case stored = <-f.stored:
		case <-f.stopped:
			return
		}
		select {
		case raw = <-f.raw:
		case <-f.stopped:
			return
		}
		stored, err := readFrame(f.r, stored[:0])
		done := make(chan unframed, 1)
		select {
		case f.frames <- done:
		case <-f.stopped:
			return
		}
		if err != nil {
			done <- unframed{err: err}
			return
		}
		go func() {
			raw, err := f.dec.DecodeAll(stored, raw[:0])
			f.stored <- stored
			done <- unframed{raw: raw, err: err}
		}()
	}
}

// close waits for what is being read and decompressed. Reading must have been cut off, or it waits for that too.
func (f *unframer) close() {
	f.err = io.ErrClosedPipe
	if f.frames == nil {
		return
	}
	f.stop()
	for done := range f.frames {
		<-done
	}
}

// maxStored bounds a compressed frame in bytes: content that does not shrink is stored in blocks with 3 bytes each.
const maxStored = FrameSize + FrameSize/64

// readFrame reads one zstd frame into b's memory without decompressing it, or finds that the tail begins, which is
// io.EOF. The layout is that of RFC 8878, section 3.1.1.
func readFrame(r *bufio.Reader, b []byte) ([]byte, error) {
	const maxHeader, blockHeader, checksum = 18, 3, 4
	front, err := r.Peek(maxHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(front) >= 4 && binary.LittleEndian.Uint32(front) == skippableTail {
		return nil, io.EOF
	}
	var h zstd.Header
	if err := h.Decode(front); err != nil {
		return nil, fmt.Errorf("frame header: %w", unexpected(err))
	}
	if h.Skippable {
		return nil, errors.New("a skippable frame between the frames")
	}
	if b, err = extend(b, r, h.HeaderSize); err != nil {
		return nil, err
	}
	for last := false; !last; {
		if b, err = extend(b, r, blockHeader); err != nil {
			return nil, err
		}
		head := b[len(b)-blockHeader:]
		bits := uint32(head[0]) | uint32(head[1])<<8 | uint32(head[2])<<16
		last = bits&1 != 0
		n := int(bits >> 3)
		if kind := bits >> 1 & 3; kind == 1 {
			n = 1 // one byte, to be repeated
		} else if kind == 3 {
			return nil, errors.New("a block of the reserved kind")
		}
		if b, err = extend(b, r, n); err != nil {
			return nil, err
		}
	}
	if h.HasCheckSum {
		return extend(b, r, checksum)
	}
	return b, nil
}

// extend reads n more bytes.
func extend(b []byte, r io.Reader, n int) ([]byte, error) {
	at := len(b)
	if at+n > maxStored {
		return nil, fmt.Errorf("a frame of more than %d bytes", maxStored)
	}
	if cap(b) < at+n {
		grown := make([]byte, at, min(max(2*cap(b), at+n, 64<<10), maxStored))
		copy(grown, b)
		b = grown
	}
	b = b[:at+n]
	if _, err := io.ReadFull(r, b[at:]); err != nil {
		return nil, unexpected(err)
	}
	return b, nil
}
