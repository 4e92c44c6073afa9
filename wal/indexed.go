package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pgcairn/pgcairn/repo"
)

// notes returns the encoded index of what was written to it.
func (x *indexer) notes() ([]byte, error) {
	ix := x.finish()
	b, err := ix.MarshalBinary()
	if err == nil && len(b) > repo.MaxNotes {
		ix = &Index{Segment: ix.Segment, Major: ix.Major, End: ix.Segment.Start(), Damage: "the index is too large to be kept"}
		b, err = ix.MarshalBinary()
	}
	return b, err
}

// Index reads the index of an archived segment, in two or three requests. The error matches fs.ErrNotExist only when the
// archive does not hold the segment. Where the archive holds a segment without an index, it is made of the content.
func (a *Archive) Index(ctx context.Context, s Segment) (*Index, error) {
	n, err := ParseName(s.Name())
	if err != nil {
		return nil, err
	}
	sys, err := a.System(ctx)
	if err != nil {
		return nil, noneYet(n, err)
	}
	return a.index(ctx, sys, n, s)
}

func (a *Archive) index(ctx context.Context, sys System, n Name, s Segment) (*Index, error) {
	if s.Size != sys.SegmentSize {
		return nil, fmt.Errorf("wal: the archive holds segments of %d bytes, not of %d", sys.SegmentSize, s.Size)
	}
	notes, err := a.repo.Notes(ctx, sys.key(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("wal: %s is not in the archive: %w", n, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("wal: index of %s: %w", n, err)
	}
	if len(notes) == 0 {
		return a.makeIndex(ctx, sys, n, s)
	}
	ix := new(Index)
	if err := ix.UnmarshalBinary(notes); err != nil {
		return nil, corruptIndex(sys, n, err)
	}
	if ix.Segment != s {
		return nil, corruptIndex(sys, n, fmt.Errorf("it is of %s", ix.Segment))
	}
	return ix, nil
}

// makeIndex indexes a segment by its content.
func (a *Archive) makeIndex(ctx context.Context, sys System, n Name, s Segment) (*Index, error) {
	x := newIndexer(s)
	if err := a.read(ctx, sys, n, x); err != nil {
		return nil, err
	}
	return x.finish(), nil
}

func corruptIndex(sys System, n Name, err error) error {
	return &repo.CorruptError{Key: sys.key(n), Err: fmt.Errorf("index: %w", err)}
}
