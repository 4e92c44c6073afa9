package repo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// Notes are data that an object has behind its content, and that are read without it. In the tail of a stream, or in a
// frame of their own behind a pack's, they are
//
//	zstd frames | XXH3 of the object's key, a newline, and the frames | uint32 LE length of the frames | "note"
//
// before the object's own sum.
const (
	notesMagic  = "note"
	notesEnd    = sumSize + 4 + len(notesMagic)
	notesChunk  = 256 << 10 // bytes that are asked for at first
	endingChunk = 128 << 10 // bytes: more than two chunks of encryption
	maxNoteSize = 2 * MaxNotes
)

// MaxNotes bounds the notes of an object, in bytes before compression.
const MaxNotes = 16 << 20

// appendNotes encodes notes.
func appendNotes(enc encoders, key string, notes []byte) (b []byte, err error) {
	if len(notes) > MaxNotes {
		return nil, fmt.Errorf("repo: %d bytes of notes, at most %d are allowed", len(notes), MaxNotes)
	}
	if len(notes) == 0 {
		return nil, nil
	}
	for len(notes) > 0 {
		n := min(len(notes), FrameSize)
		if b, err = enc.compress(ZstdFastest, b, notes[:n]); err != nil {
			return nil, fmt.Errorf("repo: compress notes: %w", err)
		}
		notes = notes[n:]
	}
	size := len(b)
	b = appendSum(b, []byte(key+"\n"), b)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	return append(b, notesMagic...), nil
}

// Notes reads the notes that an object was given when it was written, without its content; there may be none. Damage
// of them is noticed, as a *[CorruptError]. A missing object is an error matching fs.ErrNotExist, and no other is.
func (r *Repo) Notes(ctx context.Context, key string) ([]byte, error) {
	info, err := r.store.Stat(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("repo: open %s: %w", key, err)
	}
	// What is asked for last is near the end; of an encrypted object the front is asked for as well.
	end := &ending{ctx: ctx, store: r.store, key: key, size: info.Size, reach: notesChunk, answered: true, watch: &watch{}}
	plain, size := io.ReaderAt(end), info.Size
	if r.keys != nil {
		if plain, size, err = r.plainAt(ctx, key, end, info.Size, func([]byte) {}, end.fail); err != nil {
			return nil, err
		}
	}
	frames, err := readNotes(plain, size, key, end)
	if err != nil {
		return nil, end.fail(err)
	}
	notes, err := r.decodeNotes(frames)
	if err != nil {
		return nil, corrupt(key, "notes: %w", err)
	}
	return notes, nil
}

// readNotes reads the frames of the notes at the end of an object's plaintext, and checks their sum.
func readNotes(plain io.ReaderAt, size int64, key string, end *ending) ([]byte, error) {
	const behind = sumSize // the object's own sum
	var last [notesEnd]byte
	at := size - behind - int64(len(last))
	if at < 0 {
		return nil, errors.New("too short")
	}
	if err := readFullAt(plain, last[:], at); err != nil {
		return nil, err
	}
	if string(last[sumSize+4:]) != notesMagic {
		return nil, nil
	}
	n := int64(binary.LittleEndian.Uint32(last[sumSize:]))
	if n > at || n > maxNoteSize {
		return nil, errors.New("notes: malformed")
	}
	// All that is missing in one request, with what encryption adds, a thousandth, and a chunk of it on either side.
	end.reach = max(end.reach, n+n>>10+notesChunk)
	frames := make([]byte, n)
	if err := readFullAt(plain, frames, at-n); err != nil {
		return nil, err
	}
	if !bytes.Equal(appendSum(nil, []byte(key+"\n"), frames), last[:sumSize]) {
		return nil, errors.New("notes: checksum mismatch")
	}
	return frames, nil
}

// readFullAt reads all of p, from where there must be as much.
func readFullAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return unexpected(err)
}

func (r *Repo) decodeNotes(frames []byte) ([]byte, error) {
	var notes, frame []byte
	for in := bufio.NewReader(bytes.NewReader(frames)); ; {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return notes, nil
		}
		b, err := readFrame(in, frame[:0])
		if err != nil {
			return nil, unexpected(err)
		}
		frame = b
		raw, err := r.dec.DecodeAll(frame, nil)
		if err != nil {
			return nil, err
		}
		if notes = append(notes, raw...); len(notes) > MaxNotes {
			return nil, fmt.Errorf("more than %d bytes", MaxNotes)
		}
	}
}

// ending reads an object at any offset, and keeps what it has at its end, and at its front.
type ending struct {
	ctx   context.Context
	store Store
	key   string
	size  int64
	reach int64 // bytes at the end that are asked for at once
	watch *watch
	parts []part

	answered bool // the object is there
}

type part struct {
	at int64
	b  []byte
}

// ReadAt implements io.ReaderAt.
func (e *ending) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > e.size {
		return 0, io.EOF
	}
	for _, have := range e.parts {
		if have.at <= off && off+int64(len(p)) <= have.at+int64(len(have.b)) {
			return copy(p, have.b[off-have.at:]), nil
		}
	}
	at, n := off, int64(len(p))
	if from := max(0, e.size-e.reach); off >= from {
		at, n = from, e.size-from
	}
	body, err := e.store.Open(e.ctx, e.key, at, n)
	if err != nil {
		if e.answered {
			// It was there a moment ago: its absence is no answer.
			err = objerr.Failed(e.ctx, "open", e.key, err)
		}
		e.watch.note(err)
		return 0, err
	}
	e.answered = true
	defer body.Close()
	e.watch.r = io.LimitReader(body, n)
	b, err := io.ReadAll(e.watch)
	if err != nil {
		return 0, err
	}
	e.parts = append(e.parts, part{at: at, b: b})
	k := copy(p, b[min(off-at, int64(len(b))):])
	if k < len(p) {
		return k, io.EOF
	}
	return k, nil
}

func (e *ending) fail(err error) error {
	if failed := e.watch.failed(); failed != nil {
		return fmt.Errorf("repo: read %s: %w", e.key, failed)
	}
	return corrupt(e.key, "%w", err)
}
