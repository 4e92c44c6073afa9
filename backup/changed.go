package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// logged tells whether what changes a file is in the WAL by blocks. It is not of free space maps, nor of visibility maps:
// heap records clear bits there that they do not name the block of (heap_xlog_delete and its like).
func logged(path string) (pgfile.Relation, bool) {
	r, ok := pgfile.ParseRelation(path)
	return r, ok && (r.Fork == "main" || r.Fork == "init")
}

// findChanged finds out which blocks of relations have changed since a backup, in the first way that works; nil when
// pages have to be read for that.
func (t *taker) findChanged(ctx context.Context, s Session, base *Manifest) (_ *wal.Blocks, by Method, reason string, err error) {
	wish := t.options.Method
	try := func(by Method, find func() (*wal.Blocks, error)) *wal.Blocks {
		if err != nil || wish != "" && wish != by {
			return nil
		}
		blocks, failed := find()
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case failed != nil && wish != "":
			err = fmt.Errorf("backup: find what has changed by %s: %w", by, failed)
		case failed != nil:
			t.log.InfoContext(ctx, "what has changed is not found so", "method", by, "reason", failed)
			if reason == "" {
				reason = fmt.Sprintf("not by %s: %v", by, failed)
			}
		}
		return blocks
	}
	if blocks := try(ByIndex, func() (*wal.Blocks, error) { return t.changedByIndex(ctx, s, base) }); blocks != nil {
		return blocks, ByIndex, "", err
	}
	if blocks := try(BySummary, func() (*wal.Blocks, error) { return changedBySummary(ctx, s, base) }); blocks != nil {
		return blocks, BySummary, reason, err
	}
	if wish == ByLSN {
		return nil, ByLSN, reason, err
	}
	// Not by the LSN: it does not tell of changes that were not logged, and nobody knows here that there were none.
	return nil, ByCompare, reason, err
}

// errNotLogged means that wal_level was minimal for a while, when not every change is in the WAL.
var errNotLogged = errors.New("wal_level was minimal since")

// changedByIndex takes the changed blocks from the indexes of the WAL since a backup's start: from there on, since the
// backup may have read a page before it was changed. It ends where this backup's recovery begins.
func (t *taker) changedByIndex(ctx context.Context, s Session, base *Manifest) (*wal.Blocks, error) {
	start := s.Start()
	last := wal.SegmentAt(start.Timeline, start.LSN, start.WALSegmentSize)
	sum, err := t.archive.Summarize(ctx, base.FirstSegment(), last, func(seg wal.Segment) (io.ReadCloser, error) {
		c, err := s.Open(ctx, "pg_wal/"+seg.Name())
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{wholeSegment(c, seg), c}, nil
	})
	if err != nil {
		return nil, err
	}
	if sum.From > base.StartLSN || sum.To < start.LSN {
		return nil, fmt.Errorf("the WAL is readable from %s to %s only", sum.From, sum.To)
	}
	for _, e := range sum.Events {
		if e.Kind == wal.EventWALLevel && e.Name == "minimal" {
			return nil, errNotLogged
		}
	}
	return &sum.Blocks, nil
}

// wholeSegment reads a segment that may not be complete. What the server has not written yet is zero, as in a file.
func wholeSegment(c Content, seg wal.Segment) io.Reader {
	size := int64(seg.Size)
	return io.LimitReader(io.MultiReader(io.NewSectionReader(c, 0, size), zeros{}), size)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func changedBySummary(ctx context.Context, s Session, base *Manifest) (*wal.Blocks, error) {
	keeper, ok := s.(Summarizer)
	if !ok {
		return nil, errors.New("the source has no WAL summaries")
	}
	start := s.Start()
	return keeper.Summaries(ctx, start.Timeline, base.StartLSN, start.LSN)
}

// changedRanges turns the blocks that have changed into extents of files.
type changedRanges struct {
	blocks *wal.Blocks
	start  Start

	file    wal.File // that the blocks below are of
	changed []uint32
	known   bool

	large map[wal.File][]uint32 // of relations with several files, which a server sends in any order
}

// of returns what of a file may be other than in a backup that has it with another size: in ascending order.
func (c *changedRanges) of(r pgfile.Relation, before, now int64) []extent {
	page := int64(c.start.PageSize)
	if before%page != 0 || now%page != 0 { // being extended, or odd
		return []extent{{0, toEnd}}
	}
	f := fileOf(r)
	whole := wal.File{Relation: wal.Relation{Tablespace: r.Tablespace, Database: r.Database}}
	if _, cut := c.blocks.Limit(whole); cut { // the database was made, or dropped and made again
		return []extent{{0, toEnd}}
	}
	c.find(f, r.Segment > 0)
	// Blocks are numbered over all files of the relation; of this one, keep are those that may be as they were.
	first := int64(r.Segment) * int64(c.start.RelSegPages)
	keep := min(before, now) / page
	if limit, cut := c.blocks.Limit(f); cut {
		keep = min(keep, max(0, int64(limit)-first))
	}
	var all []extent
	at, _ := slices.BinarySearchFunc(c.changed, first, func(n uint32, first int64) int { return cmp.Compare(int64(n), first) })
	for _, n := range c.changed[at:] {
		off := int64(n) - first
		if off >= keep {
			break
		}
		all = addExtent(all, extent{off * page, (off + 1) * page})
	}
	return addExtent(all, extent{keep * page, toEnd})
}

// find finds the changed blocks of a relation's fork. Those of the one before are at hand, as of all that are large.
func (c *changedRanges) find(f wal.File, large bool) {
	if c.known && c.file == f {
		return
	}
	all, found := c.large[f]
	if !found {
		all = c.blocks.Changed(f)
	}
	if large && !found {
		if c.large == nil {
			c.large = map[wal.File][]uint32{}
		}
		c.large[f] = all
	}
	c.file, c.changed, c.known = f, all, true
}
