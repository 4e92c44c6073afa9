package backup

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// followed waits until the segment before the one that a standby replays is in the archive. A standby cannot switch to a
// new segment, nor does its own archiver have to bring any: that is its primary's part.
func (c *checker) followed(ctx context.Context) (string, error) {
	deadline := time.NewTimer(c.options.Wait)
	defer deadline.Stop()
	poll := time.NewTicker(checkPoll)
	defer poll.Stop()
	for {
		seg, err := c.completed(ctx)
		if err != nil {
			return "", err
		}
		n, have, err := c.hasOnAny(ctx, seg)
		if err != nil {
			return "", err
		}
		if have {
			return c.arrived(ctx, n, "the standby's primary archives: ")
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-deadline.C:
			return "", &ArchiveError{Segment: n.String(), Waited: c.options.Wait, Standby: true}
		case <-poll.C:
		}
	}
}

// completed is the segment before the one that a standby replays.
func (c *checker) completed(ctx context.Context) (wal.Segment, error) {
	at, err := c.server.replayed(ctx)
	if err != nil {
		return wal.Segment{}, err
	}
	var size uint32
	if err := c.server.conn.QueryRow(ctx, `select bytes_per_wal_segment from pg_control_init()`).Scan(&size); err != nil {
		return wal.Segment{}, fmt.Errorf("backup: ask the server: %w", err)
	}
	return wal.SegmentAt(at.Timeline, at.LSN, size).Prev(), nil
}

// hasOnAny tells whether the archive holds a segment, if not of its timeline then of one before: a promotion may be as
// recent as that.
func (c *checker) hasOnAny(ctx context.Context, seg wal.Segment) (n wal.Name, have bool, err error) {
	for t := seg.Timeline; t > 0 && !have && seg.Timeline-t < checkTimelines; t-- {
		if n, err = wal.ParseName(seg.On(t).Name()); err != nil {
			return n, false, err
		}
		if have, err = c.archive.Has(ctx, n); err != nil {
			return n, false, err
		}
	}
	if !have {
		n, err = wal.ParseName(seg.Name())
	}
	return n, have, err
}

// checkTimelines bounds how many timelines are tried.
const checkTimelines = 3

// arrived tells of a segment that is in the archive, and reads it where this host can.
func (c *checker) arrived(ctx context.Context, n wal.Name, how string) (string, error) {
	if !c.reads {
		return how + n.String() + " arrived", nil
	}
	if err := c.archive.Read(ctx, n.String(), io.Discard); err != nil {
		return "", err
	}
	return how + n.String() + " arrived, and was read back", nil
}
