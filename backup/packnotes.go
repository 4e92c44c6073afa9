package backup

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pgcairn/pgcairn/repo"
)

// packNotes are what a pack says of itself, in its notes, until a manifest does: all that the manifest will, by the
// files' paths. Whoever finds a pack without a manifest knows by them what is in it.
type packNotes struct {
	dataKey string // that the pack is encrypted to; empty when it is not
	files   []string
	frames  []repo.Frame
	pieces  [][]Piece // of each frame; their File is an index in files
}

// The encoding, which repo/FORMAT.md describes. Numbers are uvarints, a text is its length and its bytes:
//
//	version | data key | number of files | paths | number of frames |
//	  for each: raw | stored | codec | hash [16]byte | number of pieces | for each: file | offset | length
const packNotesVersion = 1

// Bounds on what the notes of a pack may tell of.
const (
	maxNoted       = 1 << 20 // files, and pieces
	maxNotedFrames = 8192    // as many as a pack may have
)

// append encodes the notes. index tells, for the File of a piece, which of files it is.
func (n *packNotes) append(b []byte, index func(file int) int) []byte {
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = binary.AppendUvarint(b, packNotesVersion)
	text(n.dataKey)
	b = binary.AppendUvarint(b, uint64(len(n.files)))
	for _, p := range n.files {
		text(p)
	}
	b = binary.AppendUvarint(b, uint64(len(n.frames)))
	for i, f := range n.frames {
		b = binary.AppendUvarint(b, uint64(f.Raw))
		b = binary.AppendUvarint(b, uint64(f.Stored))
		text(string(f.Codec))
		b = append(b, f.Hash[:]...)
		b = binary.AppendUvarint(b, uint64(len(n.pieces[i])))
		for _, p := range n.pieces[i] {
			b = binary.AppendUvarint(b, uint64(index(p.File)))
			b = binary.AppendUvarint(b, uint64(p.Offset))
			b = binary.AppendUvarint(b, uint64(p.Length))
		}
	}
	return b
}

// decodePackNotes is the reverse of append, for notes of the pack called key, which need not be sound.
func decodePackNotes(key string, b []byte) (*packNotes, error) {
	d := notesDecoder{b: b}
	if v := d.number(); d.err == nil && v != packNotesVersion {
		return nil, fmt.Errorf("notes of version %d", v)
	}
	n := &packNotes{dataKey: d.text()}
	n.files = make([]string, d.count(2, maxNoted))
	for i := range n.files {
		n.files[i] = d.text()
		if err := checkPath(n.files[i]); err != nil {
			return nil, err
		}
	}
	frames := d.count(4+len(repo.Hash{}), maxNotedFrames)
	room := maxNoted // pieces of all frames
	for range frames {
		f := repo.Frame{Raw: int(d.number()), Stored: int(d.number()), Codec: repo.Codec(d.text())}
		copy(f.Hash[:], d.bytes(len(f.Hash)))
		pieces := make([]Piece, d.count(3, room))
		room -= len(pieces)
		raw := 0
		for i := range pieces {
			p := Piece{File: int(d.number()), Offset: int64(d.number()), Length: int(d.number())}
			if d.err == nil && (p.File >= len(n.files) || p.Offset > maxFileSize || p.Length == 0 || p.Length > repo.FrameSize) {
				d.fail()
			}
			raw += p.Length
			pieces[i] = p
		}
		if d.err == nil && raw != f.Raw {
			d.fail()
		}
		if d.err != nil {
			return nil, d.err
		}
		n.frames, n.pieces = append(n.frames, f), append(n.pieces, pieces)
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail()
	}
	if d.err != nil {
		return nil, d.err
	}
	if err := (repo.Pack{Key: key, Frames: n.frames}).Check(); err != nil {
		return nil, err
	}
	return n, nil
}

// notesDecoder reads what notes are made of. After the first mistake all is zero, and err set.
type notesDecoder struct {
	b   []byte
	err error
}

var errNotes = errors.New("malformed notes")

func (d *notesDecoder) fail() { d.b, d.err = nil, errNotes }

// number reads a number that fits in what holds sizes.
func (d *notesDecoder) number() uint64 {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > 1<<62 {
		d.fail()
		return 0
	}
	d.b = d.b[w:]
	return n
}

// count reads how many items follow, each of which takes at least size bytes.
func (d *notesDecoder) count(size, most int) int {
	n := d.number()
	if n > uint64(most) || n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *notesDecoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *notesDecoder) text() string { return string(d.bytes(d.count(1, repo.MaxNotes))) }
