package restore_test

import (
	"errors"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// brokenLog is a log that cannot be read beyond a position.
type brokenLog struct{ at wal.LSN }

func (l brokenLog) Replay([]wal.Range, wal.LSN, wal.Until) (*wal.Replayed, error) {
	return &wal.Replayed{To: l.at, Read: l.at, Broken: errors.New("the record is damaged")}, nil
}

func (l brokenLog) Matches([]wal.Range, wal.Until) ([]wal.Event, error) { return nil, nil }

// TestBrokenBeforeConsistent: PostgreSQL refuses to start where the WAL ends before the backup does, whatever the target.
func TestBrokenBeforeConsistent(t *testing.T) {
	t.Parallel()
	b := taken(10, 1, 2, 3)
	c := held(t, "1:2-9")
	for _, target := range []restore.Target{restore.Immediate(), restore.Latest(), restore.AtTime(minute(30)), restore.AtLSN(at(5, 7))} {
		_, err := restore.NewPlan([]*backup.Summary{b}, c, target, &restore.PlanOptions{Log: brokenLog{b.StopLSN - 1}})
		var no *restore.UnreachableError
		require.ErrorAs(t, err, &no, "%s", target)
		require.ErrorContains(t, err, "the record is damaged")
		require.Nil(t, no.Instead, "no target can be reached from it")
		require.Nil(t, no.Before)
	}
	p, err := restore.NewPlan([]*backup.Summary{b}, c, restore.Latest(), &restore.PlanOptions{Log: brokenLog{b.StopLSN}})
	require.NoError(t, err)
	require.Len(t, p.Warnings, 1)

	// An older backup may do without what is damaged, and is no worse for it than the newest.
	older := taken(5, 1, 1, 1)
	_, err = restore.NewPlan([]*backup.Summary{older, b}, held(t, "1:1-9"), restore.Immediate(), &restore.PlanOptions{Log: brokenLog{b.StopLSN - 1}})
	require.NoError(t, err)
}
