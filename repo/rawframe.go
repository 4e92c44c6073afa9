package repo

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// rawBlock is how many bytes a block of a zstd frame holds at most.
const rawBlock = 128 << 10

// appendRawFrame appends a zstd frame that holds raw as it is, in raw blocks: RFC 8878, 3.1.1. Whoever reads zstd reads
// it, and stock zstd checks its checksum.
func appendRawFrame(dst, raw []byte) []byte {
	const checksum, singleSegment = 1 << 2, 1 << 5
	dst = binary.LittleEndian.AppendUint32(dst, zstdMagic)
	switch n := len(raw); {
	case n < 256:
		dst = append(dst, 0<<6|singleSegment|checksum, byte(n))
	case n < 1<<16+256:
		dst = append(dst, 1<<6|singleSegment|checksum)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n-256))
	default:
		dst = append(dst, 2<<6|singleSegment|checksum)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	}
	for rest := raw; ; {
		n := min(len(rest), rawBlock)
		head := uint32(n) << 3 // of a raw block
		if n == len(rest) {
			head |= 1 // the last one
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, rest[:n]...)
		if rest = rest[n:]; len(rest) == 0 {
			return binary.LittleEndian.AppendUint32(dst, uint32(xxhash.Sum64(raw)))
		}
	}
}

// rawFrameSize is how many bytes appendRawFrame appends for n.
func rawFrameSize(n int) int {
	size := 4 + 1 + 1 + n + 4
	if n >= 256 {
		size++
	}
	if n >= 1<<16+256 {
		size += 2
	}
	return size + 3*((n+rawBlock-1)/rawBlock)
}

// zstdMagic begins a zstd frame.
const zstdMagic = 0xFD2FB528
