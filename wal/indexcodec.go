package wal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The encoding of an index, which repo/FORMAT.md describes:
//
//	uvarint length | indexMeta as JSON | uvarint length | head | uvarint length | tail | changes

// indexMeta is what of an index is JSON.
type indexMeta struct {
	Version    int        `json:"version"`
	Segment    string     `json:"segment"`
	Size       uint32     `json:"size"`
	Major      int        `json:"major"`
	End        LSN        `json:"end"`
	Damage     string     `json:"damage,omitempty"`
	Commits    int        `json:"commits"`
	First      *time.Time `json:"first_commit,omitempty"`
	Last       *time.Time `json:"last_commit,omitempty"`
	Ends       *ends      `json:"ends,omitempty"`
	Events     []Event    `json:"events,omitempty"`
	Overwrites bool       `json:"overwrites,omitempty"`
	Head       int        `json:"head,omitempty"`     // bytes of the record that ends here, kept or not
	HeadEnd    LSN        `json:"head_end,omitempty"` // 0: it does not end here
	Tail       int        `json:"tail,omitempty"`     // bytes of the record that begins here and ends elsewhere
	TailAt     LSN        `json:"tail_at,omitempty"`
	TailTLI    Timeline   `json:"tail_timeline,omitempty"`
}

const indexVersion = 1

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func required(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (ix *Index) MarshalBinary() ([]byte, error) {
	m := indexMeta{
		Version: indexVersion, Segment: ix.Segment.Name(), Size: ix.Segment.Size, Major: ix.Major, End: ix.End, Damage: ix.Damage,
		Commits: ix.Commits.Count, First: optional(ix.Commits.First), Last: optional(ix.Commits.Last), Overwrites: ix.overwrites,
		Ends: ix.ends, Events: ix.Events,
		Head: ix.head.length, HeadEnd: ix.head.end, Tail: ix.tail.length, TailAt: ix.tailAt, TailTLI: ix.tailTLI,
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	var b []byte
	for _, part := range [][]byte{text, ix.head.bytes, ix.tail.bytes} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return ix.changes.append(b), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. What it is given need not be an index.
func (ix *Index) UnmarshalBinary(b []byte) error {
	d := decoder{b: b}
	d.front(ix)
	ix.changes = d.changes()
	if err := d.done(); err != nil {
		return fmt.Errorf("wal: index: %w", err)
	}
	return nil
}

// splitIndex cuts an encoded index before the changes.
func splitIndex(b []byte) (front, changes []byte, err error) {
	d := decoder{b: b}
	for range 3 { // JSON, head, tail
		_ = d.bytes()
	}
	n := len(b) - len(d.b)
	return b[:n], b[n:], d.err
}

// done is called where the encoding ends.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = errors.New("more than an index")
	}
	return d.err
}

// front decodes all but the changes.
func (d *decoder) front(ix *Index) {
	text, head, tail := d.bytes(), d.bytes(), d.bytes()
	var m indexMeta
	if d.err == nil {
		d.err = json.Unmarshal(text, &m)
	}
	if d.err == nil && m.Version != indexVersion {
		d.err = fmt.Errorf("version %d", m.Version)
	}
	var s Segment
	if d.err == nil {
		s, d.err = ParseSegment(m.Segment, m.Size)
	}
	if d.err != nil {
		return
	}
	*ix = Index{
		Segment: s, Major: m.Major, End: m.End, Damage: m.Damage, overwrites: m.Overwrites, Events: m.Events, ends: m.Ends,
		Commits: Commits{Count: m.Commits, First: required(m.First), Last: required(m.Last)},
		head:    edge{bytes: head, length: max(m.Head, len(head)), end: m.HeadEnd},
		tail:    edge{bytes: tail, length: max(m.Tail, len(tail))}, tailAt: m.TailAt, tailTLI: m.TailTLI,
	}
}

// append encodes changes: the number of files and, of each in order, tablespace, database, number, fork, number of
// steps and, of each step, the limit plus one (0 for none), the number of blocks, the first, and how far each other one
// is behind the one before it. All of these are uvarints.
func (c changes) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c)))
	for _, f := range slices.SortedFunc(maps.Keys(c), compareFiles) {
		for _, n := range []uint32{f.Tablespace, f.Database, f.Number, uint32(f.Fork)} {
			b = binary.AppendUvarint(b, uint64(n))
		}
		b = binary.AppendUvarint(b, uint64(len(c[f])))
		for _, s := range c[f] {
			b = binary.AppendUvarint(b, uint64(s.limit+1)) // noLimit wraps to 0
			b = binary.AppendUvarint(b, uint64(len(s.blocks)))
			last := uint32(0)
			for _, n := range s.blocks {
				b = binary.AppendUvarint(b, uint64(n-last))
				last = n
			}
		}
	}
	return b
}

// decoder reads what the encoding is made of. After the first mistake all is zero, and err set.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	d.b = nil
	if d.err == nil {
		d.err = errors.New("malformed")
	}
}

func (d *decoder) uint32() uint32 {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > uint64(^uint32(0)) {
		d.fail()
		return 0
	}
	d.b = d.b[w:]
	return uint32(n)
}

// count reads how many items follow, each of which takes at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uint32()
	if uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) changes() changes {
	n := d.count(5)
	c := make(changes, min(n, 1<<16))
	var last File
	for i := range n {
		f := File{Relation: Relation{Tablespace: d.uint32(), Database: d.uint32(), Number: d.uint32()}}
		fork := d.uint32()
		if f.Fork = ForkNumber(fork); fork > uint32(InitFork) || i > 0 && compareFiles(last, f) >= 0 {
			d.fail()
		}
		if d.err != nil {
			return nil
		}
		last = f
		steps := make([]step, d.count(2))
		for k := range steps {
			steps[k] = d.step(k == len(steps)-1)
		}
		c[f] = steps
	}
	return c
}

func (d *decoder) step(last bool) step {
	s := step{limit: d.uint32() - 1}
	if n := d.count(1); n > 0 {
		s.blocks = make([]uint32, n)
	}
	at := uint32(0)
	for i := range s.blocks {
		by := d.uint32()
		if i > 0 && by == 0 || at+by < at {
			d.fail()
		}
		at += by
		s.blocks[i] = at
	}
	if s.limit == noLimit && !last {
		d.fail()
	}
	return s
}
