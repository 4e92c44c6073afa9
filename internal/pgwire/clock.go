package pgwire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Clock asks the server for the time. A walsender tells it in the messages of a stream only, so one is begun where the
// WAL ends, and ended again.
func Clock(ctx context.Context, c *pgconn.PgConn) (time.Time, error) {
	system, err := Identify(ctx, c)
	if err != nil {
		return time.Time{}, err
	}
	s, err := Start(ctx, c, "", system.Timeline, system.Position)
	if err != nil {
		return time.Time{}, err
	}
	var at time.Time
	err = s.guarded(ctx, func() error {
		// Positions of 0 say that nothing has been received, so no commit that waits for standbys takes it for an answer.
		if err := s.Send(Status{Time: epoch(), Reply: true}); err != nil {
			return err
		}
		m, err := s.Receive()
		if err != nil {
			return err
		}
		if m.Kind == Done {
			return errors.New("the timeline has ended") // the server was promoted this very moment
		}
		at = time.UnixMicro(epoch().UnixMicro() + m.Clock).UTC()
		return s.end()
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the server for the time: %w", err)
	}
	return at, nil
}
