package repo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// FrameSize is the size in bytes up to which raw content is cut into frames, each compressed by itself.
	FrameSize = 1 << 20

	// maxWindow bounds what a decoder allocates for a stream. Ours are written with at most FrameSize.
	maxWindow = 8 << 20

	// Skippable frames of zstd frame our own data, so that stock zstd passes over it.
	skippableHead  = 0x184D2A50
	skippableTail  = 0x184D2A51
	skippableNotes = 0x184D2A52 // of a pack, behind its tail

	skippableStretches = 0x184D2A53 // of a pack, between tail and notes
)

// newFrameDecoder makes a decoder of single frames, to be used through DecodeAll, which refuses more than FrameSize.
// As many callers as there are processors run beside each other; more wait. The checksums inside frames are for stock
// zstd, and for whoever reads a frame without the sum over the whole object; others leave them out.
func newFrameDecoder(checksums bool) (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.IgnoreChecksum(!checksums),
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderMaxMemory(FrameSize),
		zstd.WithDecoderLowmem(true),
	)
}

// appendSkippable appends the 8 byte header of a skippable frame with a payload of n bytes.
func appendSkippable(b []byte, magic uint32, n int) []byte {
	b = binary.LittleEndian.AppendUint32(b, magic)
	return binary.LittleEndian.AppendUint32(b, uint32(n))
}

// readSkippable reads a skippable frame with just this magic number, and with at most limit bytes of payload, and
// returns header and payload in one.
func readSkippable(r io.Reader, magic uint32, limit int) (frame []byte, err error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, unexpected(err)
	}
	if m := binary.LittleEndian.Uint32(h[:]); m != magic {
		return nil, fmt.Errorf("magic number %08x, want %08x", m, magic)
	}
	n := binary.LittleEndian.Uint32(h[4:])
	if uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("a head or tail of %d bytes", n)
	}
	frame = make([]byte, 8+int(n))
	copy(frame, h[:])
	if _, err := io.ReadFull(r, frame[8:]); err != nil {
		return nil, unexpected(err)
	}
	return frame, nil
}

// unexpected turns an end of input that came too early into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
