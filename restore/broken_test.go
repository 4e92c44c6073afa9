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

// lengthLog is a log in which records begin everywhere, up to the end of the WAL.
type lengthLog struct{ brokenLog }

func (lengthLog) Replay(way []wal.Range, _ wal.LSN, u wal.Until) (*wal.Replayed, error) {
	end := way[len(way)-1].Last.End()
	return &wal.Replayed{Reached: u.LSN < end, To: min(u.LSN, end), Read: min(u.LSN, end)}, nil
}

// TestCurrentOfAnyBackup: that the newest backup's timeline ends before a target says nothing of another's.
func TestCurrentOfAnyBackup(t *testing.T) {
	t.Parallel()
	all := []*backup.Summary{taken(10, 1, 2, 3), taken(30, 2, 12, 13)}
	c := held(t, "1:2-20", "2:10-14", "2<1@10+500")
	for _, o := range []*restore.PlanOptions{{Timeline: restore.Current}, {Timeline: restore.Current, Log: lengthLog{}}} {
		p, err := restore.NewPlan(all, c, restore.AtLSN(at(18, 7)), o)
		require.NoError(t, err)
		require.Equal(t, all[0].ID, p.Backup.ID)
	}
	_, err := restore.NewPlan(all, c, restore.AtLSN(at(18, 7)), &restore.PlanOptions{Log: lengthLog{}})
	require.ErrorContains(t, err, "the WAL ends before it")
}

// untilLog keeps what it is asked for.
type untilLog struct {
	brokenLog
	until *wal.Until
}

func (l untilLog) Replay(_ []wal.Range, _ wal.LSN, u wal.Until) (*wal.Replayed, error) {
	*l.until = u
	return l.brokenLog.Replay(nil, 0, u)
}

// TestTimeInMicroseconds: PostgreSQL is told no more of a time than microseconds, and so is the log.
func TestTimeInMicroseconds(t *testing.T) {
	t.Parallel()
	var u wal.Until
	target := restore.Target{Kind: restore.KindTime, Time: minute(30).Add(1999), Exclusive: true}
	_, err := restore.NewPlan([]*backup.Summary{taken(10, 1, 2, 3)}, held(t, "1:2-9"), target, &restore.PlanOptions{Log: untilLog{brokenLog{at(4, 0)}, &u}})
	require.Error(t, err)
	require.Equal(t, minute(30).Add(1000), u.Time)
}

// lastLog is a log whose last commit is the last record of a backup's.
type lastLog struct {
	brokenLog
	last wal.Event
}

func (l lastLog) Replay([]wal.Range, wal.LSN, wal.Until) (*wal.Replayed, error) {
	r, err := l.brokenLog.Replay(nil, 0, wal.Until{})
	r.Last = &l.last
	return r, err
}

// TestInsteadCanBeReached: what is proposed can be recovered from the same backup.
func TestInsteadCanBeReached(t *testing.T) {
	t.Parallel()
	b := taken(10, 1, 2, 3)
	for _, last := range []wal.Event{{LSN: b.StopLSN - 40, End: b.StopLSN}, {LSN: b.StopLSN, End: b.StopLSN + 40}} {
		o := &restore.PlanOptions{Log: lastLog{brokenLog{last.End}, last}}
		_, err := restore.NewPlan([]*backup.Summary{b}, held(t, "1:2-9"), restore.AtTime(minute(30)), o)
		var no *restore.UnreachableError
		require.ErrorAs(t, err, &no)
		if no.Instead == nil {
			require.Less(t, last.LSN, b.StopLSN)
			continue
		}
		_, err = restore.NewPlan([]*backup.Summary{b}, held(t, "1:2-9"), *no.Instead, &restore.PlanOptions{Log: lengthLog{}})
		require.NoError(t, err)
	}
}
