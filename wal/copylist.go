package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// CopyFrom is where the WAL begins that is to be copied: that of a backup.
type CopyFrom struct {
	SystemID uint64
	First    Segment // where recovery begins
	Stop     LSN     // from where on the cluster is consistent
	Only     bool    // no more WAL than up to there
}

// timelineOf is a timeline of a cluster.
type timelineOf struct {
	system uint64
	t      Timeline
}

// listing is what two repositories hold.
type listing struct {
	systems map[uint64]System
	order   []uint64 // of the systems, as they came
	lacking []Stored
	here    map[timelineOf]*segmentRuns // that the first holds
	there   map[timelineOf]*segmentRuns // and the other one
	both    map[timelineOf]common
	pieces  []listedPiece
	strange []error

	histories []Stored // that the first holds
}

// common is the newest that both hold of a timeline: a few segments, in their order, since one may be damaged.
type common struct {
	history  Name
	segments []Name
}

const maxCommon = 3

// listedPiece is a piece that either holds.
type listedPiece struct {
	Stored

	here, there bool
}

// Holds tells whether the other repository holds a segment: it did when it was listed, or has got it from this Copier.
func (c *Copier) Holds(systemID uint64, s Segment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.there[timelineOf{systemID, s.Timeline}].has(s)
}

// hold takes note of a segment.
func hold(held map[timelineOf]*segmentRuns, k timelineOf, s Segment) {
	if held[k] == nil {
		held[k] = &segmentRuns{}
	}
	held[k].add(s)
}

// Files returns what the first repository holds and the other one lacks, in the order in which it is to be committed:
// what is cut short then is an archive without gaps that the first does not have. It is all WAL, or what can be reached
// from some points in it: what comes after them on their timelines, and on the timelines that have come of these.
func (c *Copier) Files(ctx context.Context, from ...CopyFrom) ([]Stored, error) {
	if len(from) == 0 {
		return c.lacking, nil
	}
	wanted := map[timelineOf]uint64{} // first segment of each timeline
	var exact []CopyFrom
	want := func(system uint64, t Timeline, first uint64) {
		k := timelineOf{system, t}
		if have, ok := wanted[k]; !ok || first < have {
			wanted[k] = first
		}
	}
	for _, f := range from {
		if f.Only {
			exact = append(exact, f)
			continue
		}
		want(f.SystemID, f.First.Timeline, f.First.Number)
	}
	for _, n := range c.histories {
		h, err := c.from.history(ctx, n.System, n.name)
		var corrupt *repo.CorruptError
		if errors.As(err, &corrupt) {
			c.strange = append(c.strange, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wal: copy: %w", err)
		}
		for _, f := range from {
			if f.Only || f.SystemID != n.System.ID {
				continue
			}
			if until, ok := h.Until(f.First.Timeline); ok && (until == 0 || until >= f.Stop) {
				want(f.SystemID, n.Segment.Timeline, f.First.Number)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(c.lacking), func(f Stored) bool {
		first, ok := wanted[timelineOf{f.System.ID, f.Segment.Timeline}]
		if ok && (f.Kind == StoredHistory || f.Last().Number >= first) {
			return false
		}
		return !slices.ContainsFunc(exact, f.neededBy)
	}), nil
}

// neededBy tells whether it takes a file to make a backup consistent.
func (o Stored) neededBy(x CopyFrom) bool {
	if o.System.ID != x.SystemID || o.Segment.Timeline != x.First.Timeline {
		return false
	}
	last := SegmentAt(x.First.Timeline, x.Stop-1, x.First.Size)
	n := o.Segment.Number
	return o.Kind == StoredHistory || o.Kind == StoredSegment && x.First.Number <= n && n <= last.Number
}

// Before tells whether a file is copied before, or is, one that it takes to make a backup consistent.
func (c *Copier) Before(f Stored, x CopyFrom) bool {
	return c.compare(f, Stored{
		Info: f.Info, Kind: StoredSegment, System: System{ID: x.SystemID}, Segment: SegmentAt(x.First.Timeline, x.Stop-1, x.First.Size),
	}) <= 0
}

// compare orders files as they are copied: by clusters and timelines, the history first, then segments, with the notes
// on them, and what sums them up last.
func (c *Copier) compare(x, y Stored) int {
	order := []StoredKind{StoredHistory, StoredSegment, StoredPartial, StoredBackup, StoredPiece, StoredRollUp}
	kind := func(o Stored) int { return slices.Index(order, o.Kind) }
	late := func(o Stored) int { return max(kind(o), slices.Index(order, StoredBackup)) } // what comes before goes by number
	return cmp.Or(
		cmp.Compare(slices.Index(c.order, x.System.ID), slices.Index(c.order, y.System.ID)),
		cmp.Compare(x.Segment.Timeline, y.Segment.Timeline),
		cmp.Compare(late(x), late(y)),
		cmp.Compare(x.Last().Number, y.Last().Number),
		cmp.Compare(kind(x), kind(y)),
		strings.Compare(x.Key, y.Key),
	)
}

// list finds what both hold.
func (c *Copier) list(ctx context.Context) error {
	c.systems, c.both = map[uint64]System{}, map[timelineOf]common{}
	c.here, c.there = map[timelineOf]*segmentRuns{}, map[timelineOf]*segmentRuns{}
	// Pieces before segments: once a segment is archived, its pieces are deleted.
	if err := c.join(ctx, "pieces/"); err != nil {
		return err
	}
	if err := c.join(ctx, "wal/"); err != nil {
		return err
	}
	if err := c.join(ctx, "indexes/"); err != nil {
		return err
	}
	c.addChains()
	slices.SortFunc(c.lacking, c.compare)
	return nil
}

// join lists the objects of both, in the order of their keys. Those that are of no cluster of the repositories are strange.
func (c *Copier) join(ctx context.Context, prefix string) error {
	here, stopHere := iter.Pull2(c.from.repo.Store().List(ctx, prefix))
	defer stopHere()
	there, stopThere := iter.Pull2(c.to.repo.Store().List(ctx, prefix))
	defer stopThere()
	a, err, more := here()
	b, berr, bmore := there()
	for more || bmore {
		if err := errors.Join(err, berr); err != nil {
			return err
		}
		inHere, inThere := more && (!bmore || a.Key <= b.Key), bmore && (!more || b.Key <= a.Key)
		var info repo.Info
		if inThere {
			info = b
			b, berr, bmore = there()
		}
		if inHere {
			info = a
			a, err, more = here()
		}
		sys, err := c.systemIn(ctx, strings.TrimPrefix(info.Key, prefix))
		if err != nil {
			return err
		}
		o, strange := ParseStored(info, []System{sys})
		if sys.ID != 0 && strange == nil {
			c.add(o, inHere, inThere)
		} else if inHere {
			c.strange = append(c.strange, &repo.CorruptError{Key: info.Key, Err: errors.New("not a file of this archive")})
		}
	}
	return nil
}

// systemIn returns the cluster that the rest of a key begins with; one that is not known has the ID 0.
func (c *Copier) systemIn(ctx context.Context, rest string) (System, error) {
	text, _, _ := strings.Cut(rest, "/")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return System{}, nil //nolint:nilerr // then it is none
	}
	if sys, asked := c.systems[id]; asked {
		return sys, nil
	}
	// Asked for after the file was listed, so that none is missing that it may be of.
	for _, a := range []*Archive{c.from, c.to} {
		all, err := a.owners(ctx, true)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return System{}, err
		}
		for _, s := range all {
			if c.systems[s.ID].ID == 0 {
				c.systems[s.ID], c.order = s, append(c.order, s.ID)
			}
		}
	}
	if _, known := c.systems[id]; !known {
		c.systems[id] = System{}
	}
	return c.systems[id], nil
}

// add takes note of an object that either holds, or both.
func (c *Copier) add(o Stored, here, there bool) {
	k := timelineOf{o.System.ID, o.Segment.Timeline}
	both := c.both[k]
	switch o.Kind {
	case StoredPiece: // it is known later whether it takes it
		c.pieces = append(c.pieces, listedPiece{Stored: o, here: here, there: there})
		return
	case StoredHistory:
		if here {
			c.histories = append(c.histories, o)
		}
		both.history = o.name
	case StoredSegment:
		if here {
			hold(c.here, k, o.Segment)
		}
		if there {
			hold(c.there, k, o.Segment)
		}
		if here && there {
			both.segments = append(both.segments[max(0, len(both.segments)-maxCommon+1):], o.name)
		}
	case StoredPartial, StoredBackup, StoredRollUp:
	}
	if here && there {
		c.both[k] = both
	}
	if !there {
		c.lacking = append(c.lacking, o)
	}
}

// addChains adds what it takes of pieces to read the segments that are not whole.
func (c *Copier) addChains() {
	for i := 0; i < len(c.pieces); {
		first := c.pieces[i]
		var here []piece
		all := map[piece]listedPiece{}
		for ; i < len(c.pieces) && c.pieces[i].Segment == first.Segment && c.pieces[i].System == first.System; i++ {
			p := c.pieces[i]
			all[p.piece] = p
			if p.here {
				here = append(here, p.piece)
			}
		}
		k := timelineOf{first.System.ID, first.Segment.Timeline}
		if c.here[k].has(first.Segment) || c.there[k].has(first.Segment) {
			continue
		}
		for _, p := range chain(here) {
			if !all[p].there {
				c.lacking = append(c.lacking, all[p].Stored)
			}
		}
	}
}

// Parts tells whether the other repository lacks a segment though it holds some before it and some behind it: recovery from
// before does not get past it.
func (c *Copier) Parts(systemID uint64, s Segment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.there[timelineOf{systemID, s.Timeline}].has(s) {
		return false
	}
	before, behind := false, false
	for k, held := range c.there {
		if k.system != systemID || len(held.runs) == 0 {
			continue
		}
		first, last := held.runs[0].First.Number, held.runs[len(held.runs)-1].Last.Number
		before = before || k.t <= s.Timeline && first < s.Number
		// A later timeline that begins further back may have left this one before.
		behind = behind || k.t == s.Timeline && last > s.Number || k.t > s.Timeline && first > s.Number
	}
	return before && behind
}

// SegmentKey is the key of a segment.
func (c *Copier) SegmentKey(systemID uint64, s Segment) string {
	return System{ID: systemID}.groupPrefix(s.Name()[:22]) + s.Name()
}

// HistoryKey is the key of a timeline's history.
func (c *Copier) HistoryKey(systemID uint64, t Timeline) string {
	return System{ID: systemID}.prefix() + t.HistoryName()
}
