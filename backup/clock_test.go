package backup_test

import (
	"context"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

// TestTakeRefusesAClockSetBack: backups are ordered by the clock of the host, so one must not begin before the newest.
func TestTakeRefusesAClockSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)
	store := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), store, &repo.Options{Now: func() time.Time { return now }})
	require.NoError(t, err)
	c := pgtest.New(t, nil)
	src, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
	require.NoError(t, err)
	first, err := backup.Take(t.Context(), r, src, nil)
	require.NoError(t, err)
	at, err := first.ID.Time()
	require.NoError(t, err)
	require.Equal(t, now, at)

	now = now.Add(-time.Second)
	_, err = backup.Take(t.Context(), r, neverBegun{t}, nil)
	var clock *backup.ClockError
	require.ErrorAs(t, err, &clock)
	require.Equal(t, &backup.ClockError{Now: now, Newest: first.ID}, clock)
	require.ErrorContains(t, err, "the clock says 2026-11-21T10:15:29Z")

	// Once the clock is right again, nothing stands in the way; the same second is no step back.
	now = now.Add(time.Second)
	second, err := backup.Take(t.Context(), r, src, nil)
	require.NoError(t, err)
	all, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.ElementsMatch(t, []backup.ID{first.ID, second.ID}, []backup.ID{all[0].ID, all[1].ID})
}

// neverBegun is a source that no backup may be begun on.
type neverBegun struct{ t *testing.T }

func (s neverBegun) Begin(context.Context, backup.BeginOptions) (backup.Session, error) {
	s.t.Error("a backup was begun")
	return nil, context.Canceled
}
