package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// wayOf asks the server how its WAL came to its timeline.
func (r *receiver) wayOf(ctx context.Context, c *pgconn.PgConn, t Timeline) (History, error) {
	if t == 1 {
		return History{Timeline: 1}, nil
	}
	text, err := pgwire.TimelineHistory(ctx, c, uint32(t))
	if err != nil {
		return History{}, fmt.Errorf("wal: %w", err)
	}
	return ParseHistory(t, text)
}

// noteHistories takes note of the histories that are archived.
func (r *receiver) noteHistories(c Coverage) {
	for _, t := range c.Timelines {
		if t.History != nil {
			r.noteHistory(t.Timeline)
		}
	}
}

func (r *receiver) noteHistory(t Timeline) {
	if r.stored == nil {
		r.stored = map[Timeline]bool{}
	}
	r.stored[t] = true
}

// history archives the history of a timeline, and of those that it came from where the server still has them.
func (r *receiver) history(ctx context.Context, c *pgconn.PgConn, t Timeline) error {
	if t == 1 || r.stored[t] {
		return nil
	}
	text, err := pgwire.TimelineHistory(ctx, c, uint32(t))
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	h, err := r.pushHistory(ctx, t, text)
	if err != nil {
		return err
	}
	for _, f := range h.Forks {
		if f.Timeline == 1 || r.stored[f.Timeline] {
			continue
		}
		text, err := pgwire.TimelineHistory(ctx, c, uint32(f.Timeline))
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			r.archive.log.WarnContext(ctx, "the server does not have the history of an older timeline", "timeline", f.Timeline, "error", err)
			r.noteHistory(f.Timeline)
			continue
		}
		if err != nil {
			return fmt.Errorf("wal: %w", err)
		}
		if _, err := r.pushHistory(ctx, f.Timeline, text); err != nil {
			return err
		}
	}
	return nil
}

func (r *receiver) pushHistory(ctx context.Context, t Timeline, text []byte) (History, error) {
	h, err := ParseHistory(t, text)
	if err != nil {
		return History{}, err
	}
	n, err := ParseName(t.HistoryName())
	if err != nil {
		return History{}, err
	}
	if err := r.archive.PushContent(ctx, n, bytes.NewReader(text), int64(len(text))); err != nil {
		return History{}, err
	}
	r.noteHistory(t)
	return h, nil
}

// follow goes on with the timeline that has followed the current one: at the start of its first segment, which begins
// with a copy of what came before, or after what other hands have archived of it.
func (r *receiver) follow(ctx context.Context, c *pgconn.PgConn, next pgwire.Next) error {
	old := r.ship.cur.segment
	t, at := Timeline(next.Timeline), LSN(next.Start)
	if t <= old.Timeline {
		return fmt.Errorf("wal: the server says that timeline %d follows timeline %d", t, old.Timeline)
	}
	if at > r.received {
		return fmt.Errorf("wal: the server ended timeline %d at %s, but says that timeline %d starts at %s", old.Timeline, r.received, t, at)
	}
	r.archive.log.InfoContext(ctx, "the server has gone to another timeline", "timeline", t, "from", at)
	// Its history is archived before any of its WAL.
	if err := r.history(ctx, c, t); err != nil {
		return err
	}
	held, err := r.archive.Coverage(ctx)
	if err != nil {
		return err
	}
	seg := SegmentAt(t, at, old.Size)
	for held.Holds(seg) {
		seg = seg.Next()
	}
	return r.open(ctx, seg)
}
