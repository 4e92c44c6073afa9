package repo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"
)

// A frame of codec s2 is a whole stream of the S2 format, of one chunk, so that frames one behind the other are a
// stream that stock s2d reads and checks:
//
//	ff 06 00 00 "S2sTwO" | chunk type byte | uint24 LE size of the rest | uint32 LE CRC of the raw bytes | block
//
// The chunk is of type 0, an S2 block; or 1, the raw bytes, when they do not shrink.
const (
	s2Magic      = "\xff\x06\x00\x00S2sTwO"
	s2Head       = len(s2Magic) + 4 // bytes up to the CRC
	s2Compressed = 0
	s2Raw        = 1
)

// appendS2 appends raw as an S2 frame.
func appendS2(dst, raw []byte) []byte {
	dst = append(dst, s2Magic...)
	at := len(dst)
	dst = append(dst, s2Compressed, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, s2CRC(raw))
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(raw)))
	block := s2.Encode(dst[len(dst):cap(dst)], raw)
	if len(block) >= len(raw) {
		dst[at] = s2Raw
		block = raw
	}
	dst = append(dst, block...) // a block onto itself
	n := len(dst) - at - 4
	dst[at+1], dst[at+2], dst[at+3] = byte(n), byte(n>>8), byte(n>>16)
	return dst
}

// decodeS2 decompresses an S2 frame of want raw bytes into raw's memory. The CRC is for s2d: whoever calls this knows a
// longer checksum.
func decodeS2(frame, raw []byte, want int) ([]byte, error) {
	const crc = 4
	if len(frame) < s2Head+crc || string(frame[:len(s2Magic)]) != s2Magic {
		return raw, errors.New("not a frame of S2")
	}
	chunk := binary.LittleEndian.Uint32(frame[len(s2Magic):])
	block := frame[s2Head+crc:]
	if int(chunk>>8) != len(block)+crc {
		return raw, errors.New("an S2 chunk of another size")
	}
	n := len(block)
	switch chunk & 0xff {
	case s2Raw:
	case s2Compressed:
		var err error
		if n, err = s2.DecodedLen(block); err != nil {
			return raw, err
		}
	default:
		return raw, fmt.Errorf("an S2 chunk of type %d", chunk&0xff)
	}
	if n != want { // so that no memory is taken for what it only says
		return raw, fmt.Errorf("%d raw bytes, want %d", n, want)
	}
	raw = grow(raw, want)
	if chunk&0xff == s2Raw {
		copy(raw, block)
		return raw, nil
	}
	return s2.Decode(raw, block)
}

// s2CRC is the masked CRC-32C of the Snappy framing format, which S2 has kept.
func s2CRC(b []byte) uint32 {
	return bits.RotateLeft32(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)), 17) + 0xa282ead8
}
