package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// StretchSize is how many raw bytes a stretch of a frame has, from its beginning on. The last may have less.
const StretchSize = 8 << 10

// Stretches tell of the stretches of a pack's frames what they hold, by the XXH3-64 of each. So whoever needs a frame in
// part can tell whether he has that part, where the hash of the frame does not. As a [Hash] they tell difference, not
// forgery.
//
// They stand in a skippable frame of their own behind the tail of a pack:
//
//	uint64 big-endian for each stretch of each frame | XXH3-128 of the object's key, a newline, and all before
//
// A pack of 15 MiB has 15 KiB of them, or several times that if it compresses well; 8 MiB at most.
type Stretches struct {
	frames []Frame
	first  []int // stretch of each frame
	hashes []byte
}

// appendStretches appends the hashes of the stretches of a frame's raw bytes.
func appendStretches(b, raw []byte) []byte {
	for len(raw) > 0 {
		n := min(len(raw), StretchSize)
		b = binary.BigEndian.AppendUint64(b, xxh3.Hash(raw[:n]))
		raw = raw[n:]
	}
	return b
}

// sealStretches appends hashes, if there are any, in their skippable frame.
func sealStretches(b []byte, key string, hashes []byte) []byte {
	if len(hashes) == 0 {
		return b
	}
	b = append(appendSkippable(b, skippableStretches, len(hashes)+sumSize), hashes...)
	return appendSum(b, []byte(key+"\n"), hashes)
}

// newStretches describes the stretches of a pack, whose hashes are still to be read.
func newStretches(p Pack) *Stretches {
	s := &Stretches{frames: p.Frames, first: make([]int, len(p.Frames))}
	n := 0
	for i, f := range p.Frames {
		s.first[i] = n
		n += (f.Raw + StretchSize - 1) / StretchSize
	}
	s.hashes = make([]byte, 8*n)
	return s
}

// Hold tells whether a frame, by its index, holds b from its byte at on. It is false as well where that cannot be told:
// where a stretch does not begin there, or another than the frame's last ends before it is full; and of a nil *Stretches.
func (s *Stretches) Hold(frame, at int, b []byte) bool {
	if s == nil || frame < 0 || frame >= len(s.frames) || at < 0 || at%StretchSize != 0 {
		return false
	}
	raw := s.frames[frame].Raw
	if at > raw || len(b) > raw-at || len(b)%StretchSize != 0 && at+len(b) != raw {
		return false
	}
	hashes := s.hashes[8*(s.first[frame]+at/StretchSize):]
	for len(b) > 0 {
		n := min(len(b), StretchSize)
		if xxh3.Hash(b[:n]) != binary.BigEndian.Uint64(hashes) {
			return false
		}
		b, hashes = b[n:], hashes[8:]
	}
	return true
}

// Stretches reads what a pack tells of the stretches of its frames, with one request, or two where it is encrypted, and
// nothing of the frames. A pack that was written without has nil. A missing pack is an error matching fs.ErrNotExist, and
// no other is; bytes that are not what was written are a *[CorruptError].
func (r *Repo) Stretches(ctx context.Context, p Pack) (*Stretches, error) {
	if err := p.checkToRead(); err != nil {
		return nil, err
	}
	if p.Size <= 0 {
		return nil, corrupt(p.Key, "a size of %d bytes", p.Size)
	}
	// Where they are the frames tell.
	at := int64(len(head{key: p.Key}.frame())) + 8 + int64(len(packTable(p.Frames))) + sumSize
	for _, f := range p.Frames {
		at += int64(f.Stored)
	}
	src := &ending{ctx: ctx, store: r.store, key: p.Key, size: p.Size, watch: &watch{}}
	plain, size := io.ReaderAt(src), p.Size
	if r.keys != nil {
		// In one go with the last chunk, which the cipher wants to see. Encrypted, they are further behind than at.
		src.reach = min(max(p.Size-at, 0)+endingChunk, requestWorth)
		var err error
		if plain, size, err = r.plainAt(ctx, p.Key, src, p.Size, func([]byte) {}, src.fail); err != nil {
			return nil, err
		}
	}
	s := newStretches(p)
	frame := make([]byte, min(max(size-at, 0), int64(8+len(s.hashes)+sumSize)))
	if len(frame) == 0 && size == at {
		return nil, nil // it ends with its tail
	}
	if err := readFullAt(plain, frame, at); err != nil {
		return nil, src.fail(err)
	}
	there, err := s.decode(p.Key, frame)
	if err != nil {
		return nil, corrupt(p.Key, "stretches: %w", err)
	}
	if !there {
		return nil, nil
	}
	return s, nil
}

// decode takes the hashes from the skippable frame behind a pack's tail, which may be that of its notes.
func (s *Stretches) decode(key string, frame []byte) (there bool, err error) {
	if len(frame) < 8 {
		return false, io.ErrUnexpectedEOF
	}
	switch magic := binary.LittleEndian.Uint32(frame); magic {
	case skippableNotes:
		return false, nil
	case skippableStretches:
	default:
		return false, fmt.Errorf("magic number %08x, want %08x", magic, skippableStretches)
	}
	if n := binary.LittleEndian.Uint32(frame[4:]); int64(n) != int64(len(s.hashes)+sumSize) {
		return false, fmt.Errorf("%d bytes, want %d", n, len(s.hashes)+sumSize)
	}
	hashes, ok := cutSum(frame[8:], []byte(key+"\n"))
	if !ok {
		return false, errors.New("checksum mismatch")
	}
	copy(s.hashes, hashes)
	return true, nil
}
