package wal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/zeebo/xxh3"
)

// StoredKind is what an object of an archive holds.
type StoredKind string

// The kinds of objects.
const (
	StoredSegment StoredKind = "segment"
	StoredPartial StoredKind = "partial" // a .partial file, which recovery never asks for
	StoredBackup  StoredKind = "backup"  // a .backup file, notes that nobody needs
	StoredHistory StoredKind = "history"
	StoredPiece   StoredKind = "piece"   // a part of a segment that is not complete yet
	StoredRollUp  StoredKind = "roll-up" // what is known of a group of segments, from their own indexes
)

// Stored is an object of an archive as it lies in the repository.
type Stored struct {
	repo.Info
	Kind    StoredKind
	System  System
	Segment Segment // that it is of; the first of its group for a roll-up; of a history only the timeline counts

	name  Name
	piece piece
}

// ParseStored tells what an object of an archive holds, by its key, which is below wal/, pieces/ or indexes/. systems are
// those that it may be of. The error is a *[NameError] for a key that no archive of these has.
func ParseStored(info repo.Info, systems []System) (Stored, error) {
	o := Stored{Info: info}
	bad := func(reason string) (Stored, error) { return o, &NameError{Name: info.Key, Reason: reason} }
	folder, rest, _ := strings.Cut(info.Key, "/")
	id, rest, _ := strings.Cut(rest, "/")
	i := slices.IndexFunc(systems, func(s System) bool { return strconv.FormatUint(s.ID, 10) == id })
	if i < 0 {
		return bad("of no cluster that the repository has belonged to")
	}
	o.System = systems[i]
	var err error
	switch folder {
	case "wal":
		if o.name, err = o.System.parseKey(info.Key); err != nil {
			return o, err
		}
		o.Kind = map[Kind]StoredKind{
			KindSegment: StoredSegment, KindPartial: StoredPartial, KindBackup: StoredBackup, KindHistory: StoredHistory,
		}[o.name.Kind]
		if o.Kind == StoredHistory {
			o.Segment = Segment{Timeline: o.name.Timeline, Size: o.System.SegmentSize}
			return o, nil
		}
		o.Segment, err = o.name.Segment(o.System.SegmentSize)
	case "pieces":
		o.Kind = StoredPiece
		o.piece, err = o.System.parsePiece(info.Key)
		o.Segment = o.piece.segment
	case "indexes":
		g, ok := parseGroup(rest, o.System.SegmentSize)
		if o.Kind, o.Segment = StoredRollUp, g.first; !ok || o.System.rollUpKey(g) != info.Key {
			return bad("not a key of the archive")
		}
	default:
		return bad("not a key of the archive")
	}
	return o, err
}

// Last is the last segment that the object is of: that of the group for a roll-up, and Segment for any other.
func (o Stored) Last() Segment {
	last := o.Segment
	if o.Kind == StoredRollUp {
		last.Number = groupOf(o.Segment).end() - 1
	}
	return last
}

// Read tells whether recovery reads the object: it is a segment, or bytes of one, or a history.
func (o Stored) Read() bool {
	return o.Kind == StoredSegment || o.Kind == StoredPiece || o.Kind == StoredHistory
}

// Stored yields the objects of an archive: first what there is of segments that are not complete, then files of pg_wal, then
// indexes of groups of segments, each in the order of their keys. An archive that nothing was pushed to has none. After
// an error it yields nothing more.
func (a *Archive) Stored(ctx context.Context) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		sys, err := a.System(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(Stored{}, err)
			return
		}
		for _, prefix := range []string{sys.piecesPrefix(), sys.prefix(), sys.indexPrefix()} {
			for info, err := range a.repo.Store().List(ctx, prefix) {
				if err != nil {
					yield(Stored{}, fmt.Errorf("wal: list the archive: %w", err))
					return
				}
				o, err := ParseStored(info, []System{sys})
				if err != nil {
					continue // of a later version
				}
				if !yield(o, nil) {
					return
				}
			}
		}
	}
}

// CoverageOf is the coverage of a cluster's archive that holds certain objects, those of kind StoredSegment, StoredHistory
// and StoredPiece among them; histories are the content of the histories. It is pure.
func CoverageOf(sys System, all []Stored, histories map[Timeline]History) Coverage {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Stored) int {
		return cmp.Or(cmp.Compare(a.Segment.Timeline, b.Segment.Timeline), cmp.Compare(a.Segment.Number, b.Segment.Number))
	})
	found := map[Timeline]*TimelineCoverage{}
	var pieces []piece
	for _, o := range sorted {
		if o.System != sys {
			continue
		}
		if o.Kind == StoredPiece {
			pieces = append(pieces, o.piece)
			continue
		}
		if o.Kind != StoredSegment && o.Kind != StoredHistory {
			continue
		}
		t := found[o.Segment.Timeline]
		if t == nil {
			t = &TimelineCoverage{Timeline: o.Segment.Timeline}
			found[o.Segment.Timeline] = t
		}
		if o.Kind == StoredSegment {
			t.add(o.Segment, o.Size)
		} else if h, ok := histories[o.Segment.Timeline]; ok {
			t.History = &h
		}
	}
	addPartials(found, pieces)
	c := Coverage{System: sys}
	for _, t := range found {
		c.Timelines = append(c.Timelines, *t)
	}
	slices.SortFunc(c.Timelines, func(a, b TimelineCoverage) int { return cmp.Compare(a.Timeline, b.Timeline) })
	return c
}

// CheckStored reads an object of the archive from end to end. What is not as it was pushed is a *[repo.CorruptError]; a
// missing object is an error matching fs.ErrNotExist, and nothing else is.
func (a *Archive) CheckStored(ctx context.Context, o Stored) error {
	if o.Kind == StoredHistory {
		_, err := a.ReadHistory(ctx, o)
		return err
	}
	obj, err := a.repo.OpenObject(ctx, o.Key)
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	defer obj.Close()
	err = o.check(obj)
	if err != nil {
		return notMissing(fmt.Errorf("wal: %w", err))
	}
	return nil
}

// check reads an object from end to end, and tells whether it is what its key says.
func (o Stored) check(obj *repo.Object) error {
	switch o.Kind {
	case StoredPiece:
		return checkPiece(obj, o)
	case StoredRollUp:
		return checkRollUp(obj, o)
	}
	return (&archived{name: o.name, system: o.System, obj: obj}).copyTo(io.Discard)
}

// ReadHistory reads the history that an object holds. Errors are those of [Archive.CheckStored].
func (a *Archive) ReadHistory(ctx context.Context, o Stored) (History, error) {
	obj, err := a.repo.OpenObject(ctx, o.Key)
	if err != nil {
		return History{}, fmt.Errorf("wal: %w", err)
	}
	defer obj.Close()
	var text bytes.Buffer
	if err := (&archived{name: o.name, system: o.System, obj: obj}).copyTo(&text); err != nil {
		return History{}, notMissing(fmt.Errorf("wal: %w", err))
	}
	h, err := ParseHistory(o.name.Timeline, text.Bytes())
	if err != nil {
		return h, &repo.CorruptError{Key: o.Key, Err: err}
	}
	return h, nil
}

func checkPiece(obj *repo.Object, o Stored) error {
	sum, n := xxh3.New128(), int64(0)
	for {
		b, err := obj.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n += int64(len(b)); n > int64(o.piece.to-o.piece.from) {
			break
		}
		_, _ = sum.Write(b)
	}
	if d := seal(sum); n != int64(o.piece.to-o.piece.from) || !bytes.Equal(d[:], obj.Label()) {
		return &repo.CorruptError{Key: o.Key, Err: errors.New("its content is not that of its name and label")}
	}
	return nil
}

func checkRollUp(obj *repo.Object, o Stored) error {
	_, err := decodeRollUp(obj, groupOf(o.Segment), true)
	// What follows is read as well, and tells whether the object or the store has failed.
	if _, rest := io.Copy(io.Discard, obj); rest != nil {
		return rest
	}
	if err != nil {
		return &repo.CorruptError{Key: o.Key, Err: fmt.Errorf("roll-up: %w", err)}
	}
	return nil
}
