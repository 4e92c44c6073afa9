package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/zeebo/xxh3"
)

// piece is a part of a segment that [Archive.Receive] has shipped before the segment was complete: bytes [from, to) of
// it. Pieces of one segment may overlap, and then have the same bytes.
type piece struct {
	segment  Segment
	from, to uint32
}

// piecesPrefix begins the keys of pieces. They are not below wal/, where only whole files are.
func (s System) piecesPrefix() string { return "pieces/" + strconv.FormatUint(s.ID, 10) + "/" }

// segmentPieces begins the keys of the pieces of one segment.
func (s System) segmentPieces(seg Segment) string { return s.piecesPrefix() + seg.Name() + "/" }

func (s System) pieceKey(p piece) string {
	return s.segmentPieces(p.segment) + fmt.Sprintf("%08x-%08x", p.from, p.to)
}

// parsePiece is the reverse of pieceKey.
func (s System) parsePiece(key string) (piece, error) {
	bad := func() (piece, error) { return piece{}, &NameError{Name: key, Reason: "not a key of a piece"} }
	parts := strings.Split(strings.TrimPrefix(key, s.piecesPrefix()), "/")
	if len(parts) != 2 {
		return bad()
	}
	seg, err := ParseSegment(parts[0], s.SegmentSize)
	if err != nil {
		return bad()
	}
	from, to, _ := strings.Cut(parts[1], "-")
	f, err1 := strconv.ParseUint(from, 16, 32)
	t, err2 := strconv.ParseUint(to, 16, 32)
	p := piece{segment: seg, from: uint32(f), to: uint32(t)}
	if errors.Join(err1, err2) != nil || f >= t || t > uint64(seg.Size) || s.pieceKey(p) != key {
		return bad()
	}
	return p, nil
}

// listPieces lists pieces whose keys start with a prefix, in order of segments and offsets.
func (a *Archive) listPieces(ctx context.Context, sys System, prefix string) ([]piece, error) {
	var all []piece
	for info, err := range a.repo.Store().List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("wal: list pieces: %w", err)
		}
		p, err := sys.parsePiece(info.Key)
		if err != nil {
			continue // of a later version
		}
		all = append(all, p)
	}
	return all, nil
}

// chain returns, of the pieces of one segment, those that reach furthest from its start without a gap, as few as there
// need to be. It is empty when they do not even hold the segment's header.
func chain(all []piece) []piece {
	all = slices.Clone(all)
	slices.SortFunc(all, func(x, y piece) int { return cmp.Or(cmp.Compare(x.from, y.from), cmp.Compare(y.to, x.to)) })
	var taken []piece
	var end uint32
	for i := 0; i < len(all); {
		best := piece{}
		for ; i < len(all) && all[i].from <= end; i++ {
			if all[i].to > max(end, best.to) {
				best = all[i]
			}
		}
		if best.to == 0 {
			break
		}
		taken, end = append(taken, best), best.to
	}
	if end < headerSize {
		return nil
	}
	return taken
}

// reach returns how many bytes of a segment a chain holds.
func reach(chain []piece) uint32 {
	if len(chain) == 0 {
		return 0
	}
	return chain[len(chain)-1].to
}

// putPiece makes a piece durable. One that is there with the same content is success, with other content it is a
// *[ConflictError].
func (a *Archive) putPiece(ctx context.Context, sys System, p piece, content io.ReaderAt) error {
	key := sys.pieceKey(p)
	name := fmt.Sprintf("%s, bytes %d to %d", p.segment, p.from, p.to)
	d, err := pieceDigest(p, content)
	if err != nil {
		return fmt.Errorf("wal: ship %s: %w", name, err)
	}
	label := func() ([]byte, error) { return d[:], nil }
	_, err = a.repo.Put(ctx, key, &repo.PutOptions{Label: label}, func(w io.Writer) error {
		_, err := io.Copy(w, p.section(content))
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		return a.comparePiece(ctx, sys, p, d)
	}
	if err != nil {
		return notMissing(fmt.Errorf("wal: ship %s: %w", name, err))
	}
	return nil
}

// comparePiece tells whether the archive holds a piece with a certain digest.
func (a *Archive) comparePiece(ctx context.Context, sys System, p piece, d digest) error {
	n := Name{text: fmt.Sprintf("%s, bytes %d to %d,", p.segment, p.from, p.to)}
	return a.compare(ctx, sys.pieceKey(p), n, d)
}

func pieceDigest(p piece, content io.ReaderAt) (digest, error) {
	h := xxh3.New128()
	if _, err := io.CopyBuffer(h, p.section(content), make([]byte, readSize)); err != nil {
		return digest{}, err
	}
	return seal(h), nil
}

// section reads the piece's bytes from the content of its segment.
func (p piece) section(content io.ReaderAt) io.Reader {
	return io.NewSectionReader(content, int64(p.from), int64(p.to-p.from))
}
