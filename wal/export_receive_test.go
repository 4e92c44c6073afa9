package wal

import (
	"bytes"
	"context"
	"fmt"
)

// PutPiece stores bytes [from, to) of a segment's content.
func PutPiece(ctx context.Context, a *Archive, seg Segment, from, to int, content []byte) error {
	sys, err := a.System(ctx)
	if err != nil {
		return err
	}
	return a.putPiece(ctx, sys, piece{segment: seg, from: uint32(from), to: uint32(to)}, bytes.NewReader(content))
}

// ParsePieceKey parses and writes the key of a piece.
func ParsePieceKey(s System, key string) (string, error) {
	p, err := s.parsePiece(key)
	if err != nil {
		return "", err
	}
	return s.pieceKey(p), nil
}

// Chain tells which of the pieces, pairs of offsets, reach furthest.
func Chain(pairs ...[2]uint32) string {
	var all []piece
	for _, p := range pairs {
		all = append(all, piece{from: p[0], to: p[1]})
	}
	var text string
	for _, p := range chain(all) {
		text += fmt.Sprintf("%d-%d ", p.from, p.to)
	}
	return text
}

// StartAt is startAt.
func StartAt(c Coverage, h History, slot, flushed LSN, size uint32) Segment {
	return startAt(c, h, slot, flushed, size)
}
