package repo

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// readAhead is how many stored bytes of a stream are read at a time.
const readAhead = 256 << 10

// unframer is the reverse of framer: it reads the frames of a stream and has them decompressed beside each other.
type unframer struct {
	r       *bufio.Reader
	dec     *zstd.Decoder
	pending []chan unframed // frames being decompressed, in order
	ended   error           // what the reading of frames ended with
	cur     []byte          // rest of the frame that is being read
	spare   [][]byte        // memory that is used again
	last    []byte          // memory that cur is in
}

// unframed is a frame that has been decompressed.
type unframed struct {
	raw    []byte
	stored []byte
	err    error
}

func newUnframer(r io.Reader, dec *zstd.Decoder) *unframer {
	return &unframer{r: bufio.NewReaderSize(r, readAhead), dec: dec}
}

// Read implements io.Reader. It returns io.EOF where the tail begins.
func (f *unframer) Read(p []byte) (int, error) {
	for len(f.cur) == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.cur)
	f.cur = f.cur[n:]
	return n, nil
}

// next takes the next frame, and has those after it decompressed meanwhile.
func (f *unframer) next() error {
	if f.last != nil {
		f.spare, f.last = append(f.spare, f.last), nil
	}
	for f.ended == nil && len(f.pending) <= runtime.GOMAXPROCS(0) {
		stored, err := readFrame(f.r, f.memory())
		if err != nil {
			f.ended = err
			break
		}
		raw, done := f.memory(), make(chan unframed, 1)
		f.pending = append(f.pending, done)
		// It ends by itself, and close waits for it.
		go func() {
			raw, err := f.dec.DecodeAll(stored, raw)
			done <- unframed{raw: raw, stored: stored, err: err}
		}()
	}
	if len(f.pending) == 0 {
		return f.ended
	}
	u := <-f.pending[0]
	f.pending = f.pending[1:]
	f.spare = append(f.spare, u.stored)
	f.cur, f.last = u.raw, u.raw
	return u.err
}

// memory returns an empty slice, used before if there is one.
func (f *unframer) memory() []byte {
	n := len(f.spare)
	if n == 0 {
		return nil
	}
	b := f.spare[n-1]
	f.spare = f.spare[:n-1]
	return b[:0]
}

// close waits for what is being decompressed.
func (f *unframer) close() {
	for _, done := range f.pending {
		<-done
	}
	f.pending, f.ended = nil, io.ErrClosedPipe
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
