package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"time"
)

// ParseKey is the reverse of Key.
func ParseKey(s System, key string) (Name, error) { return s.parseKey(key) }

// Key is the key of a file in the archive of a cluster.
func Key(s System, n Name) string { return s.key(n) }

// RollUpKey is the key of the roll-up that has the index of a segment.
func RollUpKey(sys System, s Segment) string { return sys.rollUpKey(groupOf(s)) }

// Indexes reads the indexes of segments.
func (a *Archive) Indexes(ctx context.Context, segments []Segment, changes bool) ([]*Index, error) {
	sys, err := a.System(ctx)
	if err != nil {
		return nil, err
	}
	var all []*Index
	for ix, err := range a.indexes(ctx, sys, segments, changes) {
		if err != nil {
			return nil, err
		}
		all = append(all, ix)
	}
	return all, nil
}

// Mark is what is remembered of a file that was archived ahead.
type Mark = mark

// Sealed returns a mark with its sum, as it is kept.
func Sealed(m Mark) []byte {
	m.Sum = m.seal()
	b, _ := json.Marshal(m) // of strings
	return b
}

// Gathered marks blocks of a file, cuts it off between, and returns the blocks of each step.
func Gathered(steps ...[]uint32) (blocks [][]uint32) {
	var g gatherer
	var f File
	for i, marks := range steps {
		if i > 0 {
			g.cut(f, uint32(len(steps)-i)) // each cuts more
		}
		for _, block := range marks {
			g.file(f).mark(block)
		}
	}
	for _, s := range g.changes()[f] {
		blocks = append(blocks, s.blocks)
	}
	return blocks
}

// EncodeRollUp encodes the roll-up of indexes.
func EncodeRollUp(indexes ...*Index) ([]byte, error) {
	var w bytes.Buffer
	err := encodeRollUp(&w, len(indexes), func(i int) (front, changes []byte, err error) {
		b, err := indexes[i].MarshalBinary()
		if err != nil {
			return nil, nil, err
		}
		return splitIndex(b)
	})
	return w.Bytes(), err
}

// DecodeRollUp decodes the roll-up of the group of a segment.
func DecodeRollUp(b []byte, s Segment, changes bool) (map[uint64]*Index, error) {
	return decodeRollUp(bytes.NewReader(b), groupOf(s), changes)
}

// ParseRecord parses a whole record, whose length and checksum it makes right first.
func ParseRecord(b []byte, major int) (*Record, error) {
	if len(b) < recordHeaderSize {
		return nil, errShort
	}
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	crc := crc32.Update(0, castagnoli, b[recordHeaderSize:])
	binary.LittleEndian.PutUint32(b[recordCRC:], crc32.Update(crc, castagnoli, b[:recordCRC]))
	r := &Record{major: major}
	return r, r.parse(b, nil)
}

// Raw returns a record that lies on one page of content, which begins with a segment; another is cut where the page ends.
func Raw(content []byte, r *Record) []byte {
	h, _ := parseHeader(content)
	at := int(r.LSN - h.Start)
	return content[at:min(at+int(r.Length), at/int(h.PageSize)*int(h.PageSize)+int(h.PageSize), len(content))]
}

// EmptyRecord is a record without data that follows the one at prev.
func EmptyRecord(prev LSN) []byte {
	b := make([]byte, recordHeaderSize)
	binary.LittleEndian.PutUint32(b, recordHeaderSize)
	binary.LittleEndian.PutUint64(b[8:], uint64(prev))
	b[16] = 0x20 // XLOG_NOOP
	binary.LittleEndian.PutUint32(b[recordCRC:], crc32.Update(0, castagnoli, b[:recordCRC]))
	return b
}

// Replay tells what the records of content that begin from one position on and before another do.
func Replay(content []byte, from, to LSN) (*Summary, error) {
	sum := &Summary{From: from, To: to}
	var told account
	for r, err := range Records(bytes.NewReader(content), nil) {
		if err != nil {
			return nil, err
		}
		if r.LSN < from || r.LSN >= to {
			continue
		}
		if err := told.record(r); err != nil {
			return nil, err
		}
	}
	sum.account(&told)
	return sum, nil
}

// MayEnd tells whether a recovery may end in a segment, by its index alone.
func MayEnd(u Until, ix *Index) bool { return u.mayEnd(ix, &Summary{}) }

// WithoutEnds returns an index as it was before it told which transactions ended.
func WithoutEnds(ix *Index) *Index {
	old := *ix
	old.ends = nil
	return &old
}

// PutRollUp writes a roll-up of the indexes of segments, of which each has the commits of a busy minute.
func (a *Archive) PutRollUp(ctx context.Context, sys System, segments []Segment, at time.Time) error {
	_, err := a.repo.Put(ctx, sys.rollUpKey(groupOf(segments[0])), nil, func(w io.Writer) error {
		return encodeRollUp(w, len(segments), func(i int) (front, changes []byte, err error) {
			s, last := segments[i], at.Add(time.Duration(i+1)*time.Minute)
			xid := uint32(1000 * s.Number)
			ix := &Index{
				Segment: s, Major: 17, End: s.End(), Commits: Commits{Count: 900, First: last.Add(-time.Minute), Last: last},
				ends:   &ends{Count: 1000, First: last.Add(-time.Minute), Last: last, LowXID: xid, HighXID: xid + 999},
				Events: []Event{{Kind: EventCheckpoint, LSN: s.Start() + 1000, End: s.Start() + 1100, Prev: s.Start() + 900, Time: last}},
			}
			b, err := ix.MarshalBinary()
			if err != nil {
				return nil, nil, err
			}
			return splitIndex(b)
		})
	})
	return err
}
