package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ArchivedAt tells when a segment was archived, by the store's clock: where there are only pieces of it, the last of
// them. That there is nothing of it is an error matching fs.ErrNotExist.
func (a *Archive) ArchivedAt(ctx context.Context, s Segment) (time.Time, error) {
	sys, err := a.System(ctx)
	if err != nil {
		return time.Time{}, err
	}
	n, err := ParseName(s.Name())
	if err != nil {
		return time.Time{}, err
	}
	// Before the segment, whose archiving deletes its pieces.
	var last time.Time
	for info, err := range a.repo.Store().List(ctx, sys.segmentPieces(s)) {
		if err != nil {
			return time.Time{}, fmt.Errorf("wal: list pieces: %w", err)
		}
		if info.ModTime.After(last) {
			last = info.ModTime
		}
	}
	info, err := a.repo.Store().Stat(ctx, sys.key(n))
	switch {
	case err == nil:
		return info.ModTime, nil
	case !errors.Is(err, fs.ErrNotExist) || last.IsZero():
		return time.Time{}, fmt.Errorf("wal: look for %s: %w", s, err)
	}
	return last, nil
}
