package wal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// PostgreSQL archives a segment under its own name once it is full, or its records end in a switch. Two others look like
// that, and have records and then zeros alone. One is the segment in which a standby, or a server that recovers, left its
// timeline: it is archived so where archive_mode is always, and nothing more will come of it. The other is what
// [Archive.Fetch] has put together from pieces: where archive_mode is always it comes back, before the primary has
// archived the segment, which would find it taken for good.

// refuseUnfinished is a *[SegmentError] about the content of a segment that is not complete, where the archive holds the
// segment in part and nobody has left the timeline in it. page is the size of its pages, used where the zeros begin that
// it ends with. It takes requests only where it does not end as complete segments do.
func (a *Archive) refuseUnfinished(ctx context.Context, sys System, s Segment, o offer, page uint32, used int64) error {
	if used > int64(s.Size-page) {
		return nil // each page has a header
	}
	if switched, err := Switched(s, whole(o.content)); err != nil || switched {
		return err
	}
	pieces, err := a.listPieces(ctx, sys, sys.segmentPieces(s))
	if err != nil || len(pieces) == 0 {
		return err
	}
	if left, err := a.left(ctx, sys, s, o.pgdata); err != nil || left {
		return err
	}
	return &SegmentError{Name: s.Name(), Err: fmt.Errorf("it is not complete: behind %s there is nothing, and no switch to the next segment; "+
		"the archive holds it in part, and has to get all of it: push it again once the server has completed it", s.Start()+LSN(used))}
}

// left tells whether a timeline was left in a segment, by the histories of later ones that the archive holds, or that are
// in the pg_wal of a data directory, if one is given.
func (a *Archive) left(ctx context.Context, sys System, s Segment, pgdata string) (bool, error) {
	for t := s.Timeline + 1; ; t++ {
		h, err := historyIn(pgdata, t)
		if err != nil {
			n, err := ParseName(t.HistoryName())
			if err != nil {
				return false, err
			}
			if has, err := a.holds(ctx, sys, n); err != nil || !has {
				return false, err
			}
			if h, err = a.history(ctx, sys, n); err != nil {
				return true, nil //nolint:nilerr // maybe: a host without an identity cannot read it, and shall not be stopped
			}
		}
		if at, ok := h.Until(s.Timeline); ok && SegmentAt(s.Timeline, at, s.Size) == s {
			return true, nil
		}
	}
}

// historyIn reads the history of a timeline from the pg_wal of a data directory.
func historyIn(pgdata string, t Timeline) (History, error) {
	if pgdata == "" {
		return History{}, os.ErrNotExist
	}
	text, err := os.ReadFile(filepath.Join(walDir(pgdata), t.HistoryName()))
	if err != nil {
		return History{}, err
	}
	return ParseHistory(t, text)
}
