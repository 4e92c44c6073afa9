package repo

import (
	"encoding/binary"
	"math/bits"
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
			return binary.LittleEndian.AppendUint32(dst, uint32(xxh64(raw)))
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

// xxh64 is XXH64 with seed 0, of which zstd's checksum is the lower half.
func xxh64(b []byte) uint64 {
	h := uint64(xxhPrime5)
	n := uint64(len(b))
	if n >= 32 {
		p1, p2 := uint64(xxhPrime1), uint64(xxhPrime2) // variables, since constants may not overflow
		v1, v2, v3, v4 := p1+p2, p2, uint64(0), -p1
		for ; len(b) >= 32; b = b[32:] {
			v1 = xxhRound(v1, binary.LittleEndian.Uint64(b))
			v2 = xxhRound(v2, binary.LittleEndian.Uint64(b[8:]))
			v3 = xxhRound(v3, binary.LittleEndian.Uint64(b[16:]))
			v4 = xxhRound(v4, binary.LittleEndian.Uint64(b[24:]))
		}
		h = bits.RotateLeft64(v1, 1) + bits.RotateLeft64(v2, 7) + bits.RotateLeft64(v3, 12) + bits.RotateLeft64(v4, 18)
		for _, v := range [...]uint64{v1, v2, v3, v4} {
			h = (h^xxhRound(0, v))*xxhPrime1 + xxhPrime4
		}
	}
	h += n
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^xxhRound(0, binary.LittleEndian.Uint64(b)), 27)*xxhPrime1 + xxhPrime4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*xxhPrime1, 23)*xxhPrime2 + xxhPrime3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*xxhPrime5, 11) * xxhPrime1
	}
	h = (h ^ h>>33) * xxhPrime2
	h = (h ^ h>>29) * xxhPrime3
	return h ^ h>>32
}

const (
	xxhPrime1 = 0x9E3779B185EBCA87
	xxhPrime2 = 0xC2B2AE3D27D4EB4F
	xxhPrime3 = 0x165667B19E3779F9
	xxhPrime4 = 0x85EBCA77C2B2AE63
	xxhPrime5 = 0x27D4EB2F165667C5
)

func xxhRound(v, input uint64) uint64 {
	return bits.RotateLeft64(v+input*xxhPrime2, 31) * xxhPrime1
}
