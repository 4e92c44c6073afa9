package wal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"github.com/pgcairn/pgcairn/repo"
)

// A roll-up has the indexes of a group's segments, so that they are read by one request. It is an object of its own,
// made when the group is complete or the WAL has gone well past it, and it may lack segments, or be missing: then the
// indexes in the segments' objects are read. repo/FORMAT.md describes it:
//
//	uvarint version | uvarint number of segments | for each: uvarint length | front | for each: uvarint length | changes
//
// The front of an index is all of it but the changes. A frame ends behind the fronts, which most readers want alone.
const rollUpVersion = 1

const (
	maxFronts   = 64 << 20 // bytes of the fronts in a roll-up
	keptGroups  = 16       // of which indexes are kept: those of 64 GiB of WAL
	fewSegments = 8        // whose indexes are as well read one by one
)

// keepIndex keeps the index of a segment that is durable now, and rolls up the groups that are done. Failing to do so
// costs time later, and nothing else.
func (a *Archive) keepIndex(ctx context.Context, sys System, s Segment, encoded []byte) {
	kept := a.kept.of(sys)
	if kept.dir == "" {
		return
	}
	a.rolling.Lock()
	defer a.rolling.Unlock()
	if err := kept.add(s, encoded); err != nil {
		a.log.WarnContext(ctx, "cannot keep the index of a segment to roll it up", "segment", s.String(), "error", err)
		return
	}
	a.kept.only(sys)
	groups := kept.groups(s.Size)
	for i, g := range groups {
		old := len(groups)-i > keptGroups
		past := s.Number >= g.end()+groupLen(s.Size)/4 // whatever was pushed ahead of its turn has come
		if !kept.rolled(g) && (old || past || g == groupOf(s) && uint64(len(kept.segments(g))) == groupLen(s.Size)) {
			err := a.rollUp(ctx, sys, g)
			if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) { // or somebody else has just done it
				err = kept.markRolled(g)
			}
			if err != nil {
				a.log.WarnContext(ctx, "cannot roll up the indexes of segments", "group", g.name(), "error", err)
			}
		}
		if old {
			kept.drop(g)
		}
	}
}

// rollUp writes the roll-up of the indexes that are kept of a group.
func (a *Archive) rollUp(ctx context.Context, sys System, g group) error {
	kept := a.kept.of(sys)
	var segments []Segment
	fronts := 0
	for _, s := range kept.segments(g) {
		front, _, err := kept.parts(s)
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil {
			a.log.WarnContext(ctx, "an index is left out of those rolled up", "segment", s.String(), "error", err)
			continue
		}
		if fronts += len(front); fronts > maxFronts {
			return fs.ErrExist // better read one by one
		}
		segments = append(segments, s)
	}
	if len(segments) < fewSegments {
		return nil
	}
	_, err := a.repo.Put(ctx, sys.rollUpKey(g), nil, func(w io.Writer) error {
		return encodeRollUp(w, len(segments), func(i int) (front, changes []byte, err error) { return kept.parts(segments[i]) })
	})
	return err
}

// encodeRollUp writes the indexes of n segments. parts is called twice for each, so that they need not be in memory.
func encodeRollUp(w io.Writer, n int, parts func(i int) (front, changes []byte, err error)) error {
	head := binary.AppendUvarint(nil, rollUpVersion)
	if _, err := w.Write(binary.AppendUvarint(head, uint64(n))); err != nil {
		return err
	}
	write := func(b []byte) error {
		_, err := w.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...))
		return err
	}
	for i := range n {
		front, _, err := parts(i)
		if err == nil {
			err = write(front)
		}
		if err != nil {
			return err
		}
	}
	if f, ok := w.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	for i := range n {
		_, changes, err := parts(i)
		if err == nil {
			err = write(changes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readRollUp reads the indexes of a group, with the changes or without, by their segments' numbers. That there is no
// roll-up is an error matching fs.ErrNotExist.
func (a *Archive) readRollUp(ctx context.Context, sys System, g group, changes bool) (map[uint64]*Index, error) {
	key := sys.rollUpKey(g)
	// As a front, it is checked frame by frame, since it may not be read to its end.
	obj, err := a.repo.OpenFront(ctx, key, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	found, err := decodeRollUp(obj, g, changes)
	if err == nil {
		return found, nil
	}
	if _, failed := obj.Next(); failed != nil && !errors.Is(failed, io.EOF) {
		return nil, failed // of the store or the object, which is why
	}
	return nil, &repo.CorruptError{Key: key, Err: fmt.Errorf("roll-up: %w", err)}
}

// decodeRollUp reads the indexes of a group. What it is given need not be a roll-up.
func decodeRollUp(r io.Reader, g group, changes bool) (map[uint64]*Index, error) {
	in := bufio.NewReader(r)
	version, err1 := binary.ReadUvarint(in)
	n, err2 := binary.ReadUvarint(in)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if version != rollUpVersion || n > groupLen(g.first.Size) {
		return nil, fmt.Errorf("version %d with %d segments", version, n)
	}
	all := make([]*Index, n)
	found := make(map[uint64]*Index, n)
	left := maxFronts
	for i := range all {
		b, err := readPart(in, left)
		if err != nil {
			return nil, err
		}
		left -= len(b)
		all[i] = new(Index)
		d := decoder{b: b}
		d.front(all[i])
		if err := d.done(); err != nil {
			return nil, err
		}
		s := all[i].Segment
		if groupOf(s) != g || found[s.Number] != nil {
			return nil, fmt.Errorf("%s is not in its place", s)
		}
		found[s.Number] = all[i]
	}
	if !changes {
		return found, nil
	}
	for _, ix := range all {
		b, err := readPart(in, repo.MaxNotes)
		if err != nil {
			return nil, err
		}
		d := decoder{b: b}
		ix.changes = d.changes()
		if err := d.done(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// readPart reads a length and as many bytes.
func readPart(in *bufio.Reader, most int) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, err
	}
	if n > uint64(most) {
		return nil, fmt.Errorf("a part of %d bytes", n)
	}
	var b bytes.Buffer // which takes no memory for bytes that do not come
	if _, err := io.CopyN(&b, in, int64(n)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
