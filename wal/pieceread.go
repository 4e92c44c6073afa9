package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/zeebo/xxh3"
)

// openPieces opens a segment that is not archived but of which pieces are, from its start: they are put together, and
// the rest of the segment is zeros, which PostgreSQL takes for the end of the WAL. missing is the error to return when
// there is no such segment: when there are no pieces, and when a later segment of the timeline is archived, so that this
// one is a hole, which nobody should take for the end.
//
// Pieces are deleted when their segment is archived. So where they turn out to be gone, the segment is asked for again.
func (a *Archive) openPieces(ctx context.Context, sys System, n Name, missing error) (*archived, error) {
	if n.Kind != KindSegment {
		return nil, missing
	}
	seg, err := n.Segment(sys.SegmentSize)
	if err != nil {
		return nil, err
	}
	all, err := a.listPieces(ctx, sys, sys.segmentPieces(seg))
	if err != nil {
		return nil, err
	}
	taken := chain(all)
	if len(taken) == 0 {
		return a.open(ctx, sys, n)
	}
	later, err := a.hasLater(ctx, sys, seg)
	if err != nil {
		return nil, err
	}
	if later {
		return a.open(ctx, sys, n)
	}
	p := newPieceReader(ctx, a, sys, taken)
	if err := p.advance(); err != nil {
		return nil, notMissing(fmt.Errorf("wal: fetch %s: %w", n, err))
	}
	a.log.InfoContext(ctx, "a segment is put together from pieces: the WAL ends in it", "segment", n, "pieces", len(taken),
		"end", seg.Start()+LSN(reach(taken)))
	return &archived{name: n, system: sys, obj: p}, nil
}

// hasLater tells whether a later segment of the same timeline is archived: in the same group or the next.
func (a *Archive) hasLater(ctx context.Context, sys System, seg Segment) (bool, error) {
	group := min(256, (uint64(1)<<32)/uint64(seg.Size))
	for i, from := range []Segment{seg, {Timeline: seg.Timeline, Number: (seg.Number/group + 1) * group, Size: seg.Size}} {
		name := from.Name()
		for info, err := range a.repo.Store().List(ctx, sys.prefix()+name[:8]+"/"+name[8:22]+"/") {
			if err != nil {
				return false, fmt.Errorf("wal: look for segments after %s: %w", seg, err)
			}
			n, err := sys.parseKey(info.Key)
			if err != nil || n.Kind != KindSegment {
				continue
			}
			if s, err := n.Segment(seg.Size); err == nil && (i > 0 || s.Number > seg.Number) {
				return true, nil
			}
		}
	}
	return false, nil
}

// pieceReader reads a segment from a chain of pieces, and zeros after them. Pieces are deleted when a longer one, or the
// segment itself, has taken their place; then it goes on with that. What pieces overlap is compared by nobody: each has
// passed its own check.
type pieceReader struct {
	archive *Archive
	ctx     context.Context //nolint:containedctx // as that of an open object
	system  System
	segment Segment
	chain   []piece // that are still to be read, the first of them in obj
	obj     *repo.Object
	key     string          // of obj
	own     *xxh3.Hasher128 // of obj
	whole   []byte          // label of the segment, once that is read
	at      uint32          // in the segment: up to where it was returned
	pos     uint32          // in the segment: up to where obj was read
	sum     *xxh3.Hasher128 // of what was returned
	zeros   []byte
	short   bool // end after the pieces, without zeros
}

func newPieceReader(ctx context.Context, a *Archive, sys System, chain []piece) *pieceReader {
	return &pieceReader{archive: a, ctx: ctx, system: sys, segment: chain[0].segment, chain: chain, sum: xxh3.New128()}
}

// relistings bounds how often a reader looks for what has taken a piece's place.
const relistings = 10

// advance opens the first piece of the chain, or what has taken its place.
func (p *pieceReader) advance() error {
	for range relistings {
		err := p.openFirst()
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err = p.openWhole(); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		all, err := p.archive.listPieces(p.ctx, p.system, p.system.segmentPieces(p.segment))
		if err != nil {
			return err
		}
		p.chain = chain(all)
		for len(p.chain) > 0 && p.chain[0].to <= p.at {
			p.chain = p.chain[1:]
		}
		if len(p.chain) == 0 {
			break
		}
	}
	return errors.New("pieces of it are deleted time and again")
}

func (p *pieceReader) openFirst() error {
	if len(p.chain) == 0 {
		return fs.ErrNotExist
	}
	return p.use(p.system.pieceKey(p.chain[0]), p.chain[0].from)
}

func (p *pieceReader) openWhole() error {
	n, err := ParseName(p.segment.Name())
	if err != nil {
		return err
	}
	if err := p.use(p.system.key(n), 0); err != nil {
		return err
	}
	p.chain, p.whole = []piece{{segment: p.segment, to: p.segment.Size}}, p.obj.Label()
	return nil
}

func (p *pieceReader) use(key string, from uint32) error {
	obj, err := p.archive.repo.OpenObject(p.ctx, key)
	if err != nil {
		return err
	}
	p.obj, p.key, p.own, p.pos = obj, key, xxh3.New128(), from
	return nil
}

// Next returns the next bytes of the segment.
func (p *pieceReader) Next() ([]byte, error) {
	for p.obj != nil || len(p.chain) > 0 {
		if p.obj == nil {
			if err := p.advance(); err != nil {
				return nil, err
			}
		}
		b, err := p.obj.Next()
		if errors.Is(err, io.EOF) {
			if err := p.finish(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		first := p.chain[0]
		if uint64(len(b)) > uint64(first.to-p.pos) {
			return nil, p.wrong("it is longer than its name says")
		}
		_, _ = p.own.Write(b)
		start := p.pos
		p.pos += uint32(len(b))
		if p.pos <= p.at {
			continue // all of it was in the piece before
		}
		b = b[max(p.at, start)-start:]
		p.at = p.pos
		_, _ = p.sum.Write(b)
		return b, nil
	}
	if p.short {
		return nil, io.EOF
	}
	if p.zeros == nil {
		p.zeros = make([]byte, readSize)
	}
	b := p.zeros[:min(uint32(len(p.zeros)), p.system.SegmentSize-p.at)]
	if len(b) == 0 {
		return nil, io.EOF
	}
	p.at += uint32(len(b))
	_, _ = p.sum.Write(b)
	return b, nil
}

// finish checks the piece that was read to its end, and opens the next.
func (p *pieceReader) finish() error {
	first := p.chain[0]
	if d := seal(p.own); p.pos != first.to || !bytes.Equal(d[:], p.obj.Label()) {
		return p.wrong("its content is not that of its name and label")
	}
	err := p.obj.Close()
	p.obj, p.chain = nil, p.chain[1:]
	return err
}

func (p *pieceReader) wrong(text string) error {
	return &repo.CorruptError{Key: p.key, Err: errors.New(text)}
}

// Label returns the digest of what was read, or what it should be where the segment is archived.
func (p *pieceReader) Label() []byte {
	if p.whole != nil {
		return p.whole
	}
	d := seal(p.sum)
	return d[:]
}

// Close releases the piece that is open.
func (p *pieceReader) Close() error {
	if p.obj == nil {
		return nil
	}
	return p.obj.Close()
}

// openAny opens a file that is archived or, of a segment that is not, its pieces.
func (a *Archive) openAny(ctx context.Context, sys System, n Name) (*archived, error) {
	f, err := a.open(ctx, sys, n)
	if errors.Is(err, fs.ErrNotExist) {
		return a.openPieces(ctx, sys, n, err)
	}
	return f, err
}
