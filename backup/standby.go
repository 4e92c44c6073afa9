package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// Replayer is a Session of a standby, which gets the WAL that its backup needs from elsewhere.
type Replayer interface {
	// Replayed tells where the standby is.
	Replayed(ctx context.Context) (Replay, error)
}

// Replay is where a standby is.
type Replay struct {
	LSN      wal.LSN      // up to where it has received or replayed WAL
	Timeline wal.Timeline // the newest that it is known to have come to
	Promoted bool         // it is no standby any more
}

// PromotedError means that a promotion came in between while a standby was backed up: its own, or that of the server which
// it follows. There is another timeline then, and the backup is of no use.
type PromotedError struct {
	Timeline wal.Timeline // that the backup began on
	Next     wal.Timeline // that the standby has followed another server to; 0 when it was promoted itself
}

func (e *PromotedError) Error() string {
	if e.Next == 0 {
		return fmt.Sprintf("the standby was promoted while it was backed up, and has left timeline %d: take another backup", e.Timeline)
	}
	return fmt.Sprintf("the standby has followed a promoted server from timeline %d to %d: take another backup, once that server has made a checkpoint",
		e.Timeline, e.Next)
}

// recoveryConflict is the code of a query that a standby has cancelled since it was in the way of recovery.
const recoveryConflict = "40001"

// again calls f, and again when recovery on a standby has cancelled its query.
func (s *server) again(ctx context.Context, f func() error) error { return again(ctx, s.log, f) }

func again(ctx context.Context, log *slog.Logger, f func() error) error {
	for failures := 1; ; failures++ {
		err := f()
		if codeOf(err) != recoveryConflict || failures == maxFailures {
			return err
		}
		log.InfoContext(ctx, "recovery has cancelled a query, which is tried again", "error", err)
		select {
		case <-time.After(firstPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// checkBegun makes sure that a backup of a standby may end on the timeline that it has begun on, and notes how far it has
// come.
func (s *server) checkBegun(ctx context.Context, start *Start) error {
	var reached string
	var timeline wal.Timeline
	err := s.conn.QueryRow(ctx, `select min_recovery_end_lsn::text, min_recovery_end_timeline from pg_control_recovery()`).Scan(&reached, &timeline)
	if err != nil {
		return fmt.Errorf("backup: ask how far the standby is: %w", err)
	}
	if start.Reached, err = wal.ParseLSN(reached); err != nil {
		return err
	}
	if timeline != start.Timeline {
		return fmt.Errorf("backup: %w", &PromotedError{Timeline: start.Timeline, Next: timeline})
	}
	return nil
}

// checkEnded makes sure that a backup of a standby has ended on the timeline that it has begun on, and that its pg_control
// is one from which recovery knows where it ends: there it looks, rather than in the WAL (InitWalRecovery of PostgreSQL's
// xlogrecovery.c).
func (s *server) checkEnded(ctx context.Context, stop Stop, control pgfile.Control) error {
	label, err := pgfile.ParseLabel(stop.Label)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	// The backup ends at the minimum recovery point. Its timeline may have moved on since, but not back.
	var timeline wal.Timeline
	err = s.again(ctx, func() error {
		return s.scan(ctx, `select min_recovery_end_timeline from pg_control_recovery()`, &timeline)
	})
	if err != nil {
		return fmt.Errorf("backup: ask how far the standby is: %w", s.judge(ctx, err))
	}
	if timeline != s.timeline || label.Timeline != uint32(s.timeline) {
		return fmt.Errorf("backup: %w", &PromotedError{Timeline: s.timeline, Next: timeline})
	}
	if label.From != "standby" || control.State != pgfile.InArchiveRecovery ||
		wal.Timeline(control.MinTimeline) != s.timeline || wal.LSN(control.MinRecovery) > stop.LSN || stop.LSN < s.reached {
		return errors.New("backup: the server's label and pg_control are not those of one standby")
	}
	return nil
}

// promoted makes an error of the end of a backup one that says so when the server is a standby no more.
func (s *server) promoted(ctx context.Context, err error) error {
	var recovering bool
	if !s.standby || s.closed() || s.scan(ctx, `select pg_is_in_recovery()`, &recovering) != nil || recovering {
		return err
	}
	return &PromotedError{Timeline: s.timeline}
}

// replayed tells where the standby is. Of the timeline that it receives not every role is told; pg_control follows a
// checkpoint later.
func (s *server) replayed(ctx context.Context) (Replay, error) {
	const query = `select coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::text,
		greatest(c.timeline_id, r.min_recovery_end_timeline, (select received_tli from pg_stat_wal_receiver)), not pg_is_in_recovery()
		from pg_control_checkpoint() c, pg_control_recovery() r`
	var lsn string
	var at Replay
	err := s.again(ctx, func() error { return s.scan(ctx, query, &lsn, &at.Timeline, &at.Promoted) })
	if err != nil {
		return Replay{}, fmt.Errorf("backup: ask how far the standby is: %w", s.judge(ctx, err))
	}
	at.LSN, err = wal.ParseLSN(lsn)
	return at, err
}
