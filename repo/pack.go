package repo

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// maxPackFrames bounds the frames of one pack, and with it the memory that describing one takes.
const maxPackFrames = 8192

// Hash is the XXH3-128 of a frame's raw bytes. It tells corruption and difference, not forgery.
type Hash [16]byte

// HashOf computes the Hash of raw bytes.
func HashOf(raw []byte) Hash { return xxh3.Hash128(raw).Bytes() }

// String returns the Hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 2*len(h) {
		return fmt.Errorf("a hash of %d digits", len(b))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// Codec names how a frame is compressed.
type Codec string

// The codecs. What does not shrink is stored as it is in either.
const (
	CodecZstd Codec = "zstd" // a zstd frame
	CodecS2   Codec = "s2"   // a stream of the S2 format, of one chunk
)

// codecs are the numbers of codecs in a pack's tail.
var codecs = map[Codec]byte{CodecZstd: 1, CodecS2: 2} //nolint:gochecknoglobals // a constant

// CodecError means that a pack has frames of a codec that this version of pgcairn does not know: it is not damaged.
type CodecError struct {
	Key   string // of the pack
	Codec Codec
}

func (e *CodecError) Error() string {
	return fmt.Sprintf("pack %s has frames of an unknown codec, %q: use a newer version of pgcairn", e.Key, e.Codec)
}

// Frame is a run of up to [FrameSize] raw bytes in a pack, compressed by itself. Frames follow each other without gaps.
type Frame struct {
	Raw    int   `json:"raw"`    // bytes before compression
	Stored int   `json:"stored"` // bytes in the pack
	Codec  Codec `json:"codec"`
	Hash   Hash  `json:"hash"` // of the raw bytes
}

// Pack describes a committed pack.
type Pack struct {
	Key    string  `json:"key"`
	Size   int64   `json:"size"` // in bytes, as stored
	Frames []Frame `json:"frames"`
}

// PackWriter gathers frames into one object. It is used by one goroutine at a time; several beside each other make
// use of several processors.
type PackWriter struct {
	repo        *Repo
	compression Compression
	s           *sealer
	frames      []Frame

	hashes    bool   // of stretches are wanted
	stretches []byte // their hashes so far
}

// PackOptions are the options of [Repo.CreatePack]; nil is their zero value.
type PackOptions struct {
	// Compression is how the frames are compressed.
	Compression Compression

	// Stretches stores hashes of the frames' stretches, for [Repo.Stretches], which takes about a thousandth of the raw bytes.
	// The default, false, stores those of frames alone.
	Stretches bool
}

// CreatePack starts a pack. Nothing is visible under key before [PackWriter.Commit]. Cancelling ctx aborts. A pack takes
// memory while a frame is appended and, beyond what the store takes, next to none between.
func (r *Repo) CreatePack(ctx context.Context, key string, o *PackOptions) (*PackWriter, error) {
	if o == nil {
		o = &PackOptions{}
	}
	if _, err := ParseCompression(string(o.Compression)); err != nil {
		return nil, fmt.Errorf("repo: write %s: %w", key, err)
	}
	s, err := r.seal(ctx, key, nil)
	if err != nil {
		return nil, err
	}
	return &PackWriter{repo: r, compression: o.Compression, s: s, hashes: o.Stretches}, nil
}

// Append compresses raw, 1 to [FrameSize] bytes, and adds it as a frame. A pack takes 8,192 frames at most; see Full.
func (w *PackWriter) Append(raw []byte) error {
	if len(raw) == 0 || len(raw) > FrameSize {
		return fmt.Errorf("repo: a frame of %d bytes", len(raw))
	}
	if len(w.frames) == maxPackFrames {
		return fmt.Errorf("repo: pack %s has %d frames already", w.s.key, maxPackFrames)
	}
	buf, ok := w.repo.frames.Get().(*[]byte)
	if !ok {
		buf = new(make([]byte, 0, FrameSize+maxOverhead))
	}
	defer w.repo.frames.Put(buf)
	frame, err := w.repo.enc.compress(w.compression, (*buf)[:0], raw)
	if err != nil {
		return fmt.Errorf("repo: compress a frame of %s: %w", w.s.key, err)
	}
	*buf = frame
	if err := w.s.write(frame); err != nil {
		return err
	}
	w.frames = append(w.frames, Frame{Raw: len(raw), Stored: len(frame), Codec: w.compression.codec(), Hash: HashOf(raw)})
	if w.hashes {
		w.stretches = appendStretches(w.stretches, raw)
	}
	return nil
}

// Key is the key that the pack will have.
func (w *PackWriter) Key() string { return w.s.key }

// Frames are those that the pack has so far. The slice is not to be changed.
func (w *PackWriter) Frames() []Frame { return w.frames }

// Size is the number of bytes written so far, before encryption.
func (w *PackWriter) Size() int64 { return w.s.total }

// packSize is when a pack is full, in bytes. With another frame and what encryption adds it stays below 16 MiB, from
// where on S3 clients split an upload into parts, each a request of its own.
const packSize = 14 << 20

// Full tells that the pack has reached its usual size, 14 to 15 MiB, or its bound of frames, and should be committed.
func (w *PackWriter) Full() bool {
	return w.s.total+int64(len(w.stretches)) >= packSize || len(w.frames) >= maxPackFrames
}

// Commit makes the pack durable. A taken key is an error matching fs.ErrExist, unless it holds just this pack, as with
// [Repo.Put].
func (w *PackWriter) Commit() (Pack, error) { return w.CommitWithNotes(nil) }

// CommitWithNotes is Commit of a pack with up to 16 MiB of notes, which [Repo.Notes] reads without the frames.
func (w *PackWriter) CommitWithNotes(notes []byte) (Pack, error) {
	notes, err := appendNotes(w.repo.enc, w.s.key, notes)
	if err != nil {
		return Pack{}, err
	}
	table := packTable(w.frames)
	if len(notes) == 0 && len(w.stretches) == 0 {
		err = w.s.end(skippableTail, table)
	} else {
		// Both are behind the tail, where readers look at nothing but the sum at the end. The tail's own is zero, so
		// that what is cut off there is noticed. Last is the frame of the notes, be it for the sum alone.
		tail := append(appendSkippable(nil, skippableTail, len(table)+sumSize), table...)
		tail = append(tail, make([]byte, sumSize)...)
		if err = w.s.write(sealStretches(tail, w.s.key, w.stretches)); err == nil {
			err = w.s.end(skippableNotes, notes)
		}
	}
	if err != nil {
		return Pack{}, err
	}
	info, err := w.s.commit()
	if err != nil {
		return Pack{}, err
	}
	return Pack{Key: w.s.key, Size: info.Size, Frames: w.frames}, nil
}

// Close releases the writer; before Commit it aborts.
func (w *PackWriter) Close() error { return w.s.Close() }

// packTable encodes the frame table in a pack's tail: 25 bytes a frame, big-endian:
//
//	raw uint32 | stored uint32 | codec byte | hash [16]byte
func packTable(frames []Frame) []byte {
	b := make([]byte, 0, len(frames)*25)
	for _, f := range frames {
		b = binary.BigEndian.AppendUint32(b, uint32(f.Raw))
		b = binary.BigEndian.AppendUint32(b, uint32(f.Stored))
		b = append(b, codecs[f.Codec])
		b = append(b, f.Hash[:]...)
	}
	return b
}

// Check tells whether a description of a pack, as read from somewhere, is within bounds. An unknown codec is a
// *[CodecError].
func (p Pack) Check() error {
	if err := checkKey(p.Key); err != nil {
		return err
	}
	if len(p.Frames) > maxPackFrames {
		return fmt.Errorf("a pack of %d frames", len(p.Frames))
	}
	for i, f := range p.Frames {
		if f.Raw <= 0 || f.Raw > FrameSize || f.Stored <= 0 || f.Stored > 2*FrameSize {
			return fmt.Errorf("frame %d: size out of bounds", i)
		}
		if f.Codec == "" {
			return fmt.Errorf("frame %d: no codec", i)
		}
		if codecs[f.Codec] == 0 {
			return &CodecError{Key: p.Key, Codec: f.Codec}
		}
	}
	return nil
}

// checkToRead is Check of the description of a pack that is to be read.
func (p Pack) checkToRead() error {
	err := p.Check()
	var unknown *CodecError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return fmt.Errorf("repo: read %w", unknown)
	default:
		return corrupt(p.Key, "%w", err)
	}
}

// ReadPack reads a pack from end to end, checks every byte of it, and calls f with each frame's raw bytes, which are
// right when f sees them and valid until it returns. Several packs may be read beside each other. A missing pack is an
// error matching fs.ErrNotExist; bytes that are not what was written are a *[CorruptError].
func (r *Repo) ReadPack(ctx context.Context, p Pack, f func(i int, raw []byte) error) error {
	if err := p.checkToRead(); err != nil {
		return err
	}
	return r.readWhole(ctx, p, func(int) bool { return true }, f)
}

// ReadFrames is [Repo.ReadPack] for the frames that want tells, which are checked as those are. When others are not
// wanted, ranges of the pack are read, as few as to make up for the requests, and what else it holds is not looked at.
// Where nothing is wanted, nothing is read.
func (r *Repo) ReadFrames(ctx context.Context, p Pack, want func(i int) bool, f func(i int, raw []byte) error) error {
	if err := p.checkToRead(); err != nil {
		return err
	}
	wanted := make([]bool, len(p.Frames))
	for i := range wanted {
		wanted[i] = want(i)
	}
	runs := runsOf(p, wanted)
	switch {
	case len(runs) == 0:
		return nil
	case worthwhile(p, runs, r.keys != nil):
		return r.readRuns(ctx, p, runs, wanted, f)
	}
	return r.readWhole(ctx, p, func(i int) bool { return wanted[i] }, f)
}

// readWhole reads a pack from end to end. The frames that are not wanted are not decompressed.
func (r *Repo) readWhole(ctx context.Context, p Pack, want func(i int) bool, f func(i int, raw []byte) error) error {
	u, err := r.unseal(ctx, p.Key, -1)
	if err != nil {
		return err
	}
	defer u.Close()
	return r.readPack(u, p, want, f)
}

// readPack is readWhole of a pack that was opened.
func (r *Repo) readPack(u *unsealer, p Pack, want func(i int) bool, f func(i int, raw []byte) error) (err error) {
	var stored, raw []byte
	for i, frame := range p.Frames {
		stored = grow(stored, frame.Stored)
		if _, err := io.ReadFull(u.sum, stored); err != nil {
			return u.fail(unexpected(err))
		}
		if !want(i) {
			continue
		}
		if raw, err = r.decode(frame, stored, raw); err != nil {
			return corrupt(p.Key, "frame %d: %w", i, err)
		}
		if err := f(i, raw); err != nil {
			return err
		}
	}
	table := packTable(p.Frames)
	tail, err := readSkippable(u.sum, skippableTail, len(table)+sumSize)
	if err != nil {
		return u.fail(err)
	}
	if string(tail[8:max(8, len(tail)-sumSize)]) != string(table) {
		return corrupt(p.Key, "its frame table is another")
	}
	return u.finish()
}

// decode decompresses a frame into raw's memory and checks it.
func (r *Repo) decode(f Frame, stored, raw []byte) (_ []byte, err error) {
	if f.Codec == CodecS2 {
		raw, err = decodeS2(stored, raw, f.Raw)
	} else {
		raw, err = r.dec.DecodeAll(stored, raw[:0])
	}
	if err != nil {
		return raw, err
	}
	if len(raw) != f.Raw {
		return raw, fmt.Errorf("%d raw bytes, want %d", len(raw), f.Raw)
	}
	if HashOf(raw) != f.Hash {
		return raw, errors.New("checksum mismatch")
	}
	return raw, nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, max(n, min(2*cap(b), FrameSize)))
	}
	return b[:n]
}
