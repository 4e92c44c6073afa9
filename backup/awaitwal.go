package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

const (
	// The archive and the standby are asked for a segment after pauses that double.
	firstPoll   = 250 * time.Millisecond
	longestPoll = 5 * time.Second
	// waitWarning is how long a segment is waited for until a warning says what to do.
	waitWarning = 10 * time.Second
	// goneTime is how long the archive is given for a segment that the standby does not have any more.
	goneTime = 5 * time.Minute
)

// presence is how much there is of a segment.
type presence int

const (
	partly   presence = iota // it may become complete
	complete                 // on the standby
	removed                  // from the standby
	archived
)

// await returns nil once the repository holds a segment that a backup from a standby needs. A standby switches to no
// segment, as a primary does at the end of a backup, so the last one is complete only when the primary has written on. It
// is taken from whoever has it first, the archive or the standby, and for as long as nobody has, await waits, as
// pg_backup_stop does.
func (t *taker) await(ctx context.Context, s Session, n wal.Name, seg wal.Segment) error {
	warning := time.NewTimer(waitWarning)
	defer warning.Stop()
	var lost <-chan time.Time
	for pause := firstPoll; ; pause = min(2*pause, longestPoll) {
		there, err := t.obtain(ctx, s, n, seg)
		if err != nil {
			return err
		}
		switch {
		case there == archived:
			return nil
		case there != removed:
			lost = nil
		case lost == nil:
			lost = time.After(goneTime)
		}
		if pause == firstPoll {
			t.log.InfoContext(ctx, "waiting for a segment that the backup needs", "segment", n)
		}
		poll := time.NewTimer(pause)
		select {
		case <-poll.C:
		case <-warning.C:
			t.warn(ctx, n, there)
		case <-lost:
			return &MissingWALError{Segment: n.String()}
		case <-ctx.Done():
			poll.Stop()
			return fmt.Errorf("backup: wait for segment %s: %w", n, ctx.Err())
		}
		poll.Stop()
	}
}

// warn says what can be done about a segment that does not come.
func (t *taker) warn(ctx context.Context, n wal.Name, there presence) {
	if there == removed {
		t.log.WarnContext(ctx, "a segment that the backup needs has left the standby before it was archived: does the primary archive to this repository?",
			"segment", n)
		return
	}
	t.log.WarnContext(ctx, "the last segment that the backup needs is not complete yet: "+
		"SELECT pg_switch_wal() on the primary completes it, and so does archive_timeout", "segment", n)
}

// obtain sees to it that a segment is in the archive, if that can be, and else tells how much there is of it.
func (t *taker) obtain(ctx context.Context, s Session, n wal.Name, seg wal.Segment) (presence, error) {
	at := Replay{LSN: math.MaxUint64} // what is not known does not hinder
	if r, ok := s.(Replayer); ok {
		var err error
		if at, err = r.Replayed(ctx); err != nil {
			return 0, err
		}
	}
	there, err := t.find(ctx, s, seg, at)
	if err != nil {
		return 0, fmt.Errorf("backup: read segment: %w", err)
	}
	if there == complete {
		// What differs from what the archive has is a conflict here, as it is on a primary.
		err := t.secure(ctx, s, n, int64(seg.Size))
		missing, refused := (*MissingWALError)(nil), (*wal.SegmentError)(nil)
		switch {
		case err == nil:
			return archived, nil
		case !errors.As(err, &missing) && !errors.As(err, &refused):
			return 0, err
		}
		return removed, nil // removed, or recycled for another, meanwhile
	}
	have, err := t.archive.Has(ctx, n)
	switch {
	case err != nil:
		return 0, err
	case have:
		return archived, nil
	case there == partly && at.Promoted:
		return 0, fmt.Errorf("backup: %w", &PromotedError{Timeline: seg.Timeline})
	case there == partly && at.Timeline > seg.Timeline:
		return 0, fmt.Errorf("backup: %w", &PromotedError{Timeline: seg.Timeline, Next: at.Timeline})
	}
	return there, nil
}

// find tells how much of a segment a standby has. That it has replayed to the segment's end is not enough: a switch is
// replayed before what follows it in the segment is received, and on another timeline the segment may have ended early.
// Before then, on the other hand, there is no need to look at its content.
func (t *taker) find(ctx context.Context, s Session, seg wal.Segment, at Replay) (presence, error) {
	if seg.Number < t.manifest.LastSegment().Number {
		return complete, nil // for the backup's stop has been replayed on this timeline, in a segment behind it
	}
	if at.LSN < seg.End() {
		return partly, nil
	}
	content, err := s.Open(ctx, "pg_wal/"+seg.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return removed, nil
	}
	if err != nil {
		return 0, err
	}
	defer content.Close()
	whole, err := t.begun(ctx, s, seg.Next())
	if err == nil && !whole {
		whole, err = wal.Switched(seg, io.NewSectionReader(content, 0, int64(seg.Size)))
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // a source that does not keep files open notices only now
		return removed, nil
	case err != nil:
		return 0, err
	case whole:
		return complete, nil
	}
	return partly, nil
}

// begun tells whether a standby has the first page of a segment. WAL comes in order, so it has all of the segment before
// as well. A file that was recycled has the page of an older segment.
func (t *taker) begun(ctx context.Context, s Session, seg wal.Segment) (bool, error) {
	content, err := s.Open(ctx, "pg_wal/"+seg.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer content.Close()
	head := make([]byte, 512)
	if _, err := content.ReadAt(head, 0); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	h, err := wal.ReadHeader(bytes.NewReader(head))
	return err == nil && h.Start == seg.Start() && h.Timeline == seg.Timeline &&
		h.SystemID == t.manifest.SystemID && h.SegmentSize == seg.Size, nil
}
