package restore_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// withPartial adds to a coverage what is held of a segment, up to an offset in it.
func withPartial(c wal.Coverage, seg wal.Segment, offset int) wal.Coverage {
	p := &wal.Partial{Segment: seg, End: seg.Start() + wal.LSN(offset)}
	if t := c.Timeline(seg.Timeline); t != nil {
		t.Partial = p
		return c
	}
	c.Timelines = append(c.Timelines, wal.TimelineCoverage{Timeline: seg.Timeline, Partial: p})
	return c
}

// TestPlanCountsOnPieces: a receiver has shipped a part of the last segment.
func TestPlanCountsOnPieces(t *testing.T) {
	t.Parallel()
	all := []*backup.Summary{taken(10, 1, 2, 3)}
	plan := func(c wal.Coverage, target restore.Target) (*restore.Plan, error) {
		return restore.NewPlan(all, c, target, nil)
	}
	c := withPartial(held(t, "1:2-5"), segment(1, 6), 5000)

	p, err := plan(c, restore.Latest())
	require.NoError(t, err)
	require.Equal(t, "1:2-6", ranges(p.WAL))
	require.Equal(t, at(6, 5000), p.End())

	p, err = plan(c, restore.AtLSN(at(6, 4999)))
	require.NoError(t, err)
	require.Equal(t, "1:2-6", ranges(p.WAL))
	_, err = plan(c, restore.AtLSN(at(6, 5000)))
	var no *restore.UnreachableError
	require.ErrorAs(t, err, &no)
	require.Equal(t, at(6, 5000), no.Before.LSN)
	require.ErrorContains(t, err, "is archived up to 0/6001388")

	p, err = plan(c, restore.AtLSN(at(4, 7)))
	require.NoError(t, err)
	require.Equal(t, "1:2-5", ranges(p.WAL))
	require.Equal(t, at(6, 0), p.End())

	// The backup itself ends in the segment.
	short := withPartial(held(t, "1:2-2"), segment(1, 3), 999)
	_, err = plan(short, restore.Latest())
	require.ErrorAs(t, err, &no)
	require.Equal(t, "1:3-3", ranges(no.Missing))
	p, err = plan(withPartial(held(t, "1:2-2"), segment(1, 3), 1000), restore.Immediate())
	require.NoError(t, err)
	require.Equal(t, "1:2-3", ranges(p.WAL))

	// After a hole, pieces prove that there is more.
	_, err = plan(withPartial(held(t, "1:2-5"), segment(1, 8), 5000), restore.Latest())
	require.ErrorAs(t, err, &no)
	require.Equal(t, "1:6-7", ranges(no.Missing))

	// Timeline 2 has begun in segment 6, and there is no more of it yet than pieces.
	c = withPartial(withPartial(held(t, "1:2-5", "2<1@6+100"), segment(2, 6), 7000), segment(1, 6), 300)
	p, err = plan(c, restore.Latest())
	require.NoError(t, err)
	require.Equal(t, "1:2-5 2:6-6", ranges(p.WAL))
	require.Equal(t, at(6, 7000), p.End())
	p, err = restore.NewPlan(all, c, restore.Latest(), &restore.PlanOptions{Timeline: 1})
	require.NoError(t, err)
	require.Equal(t, "1:2-6", ranges(p.WAL))
	require.Equal(t, at(6, 300), p.End())
}

// inPieces is a log with one restore point, which is in a segment that is held in part.
type inPieces struct{ in wal.Segment }

func (l inPieces) event() wal.Event {
	return wal.Event{Kind: wal.EventRestorePoint, Name: "here", Timeline: l.in.Timeline, LSN: l.in.Start() + 100, End: l.in.Start() + 200}
}

func (l inPieces) Matches(way []wal.Range, _ wal.Until) ([]wal.Event, error) {
	if len(way) == 0 || way[len(way)-1].Last != l.in {
		return nil, nil
	}
	return []wal.Event{l.event()}, nil
}

func (l inPieces) Replay([]wal.Range, wal.LSN, wal.Until) (*wal.Replayed, error) {
	e := l.event()
	return &wal.Replayed{Reached: true, To: e.End, Read: e.End}, nil
}

// TestNamesInPieces: what a receiver has shipped of the last segment is looked through for restore points, too.
func TestNamesInPieces(t *testing.T) {
	t.Parallel()
	all := []*backup.Summary{taken(10, 1, 2, 3)}
	last := segment(1, 6)
	c := withPartial(held(t, "1:2-5"), last, 5000)
	p, err := restore.NewPlan(all, c, restore.AtName("here"), &restore.PlanOptions{Log: inPieces{last}})
	require.NoError(t, err)
	require.Equal(t, "1:2-6", ranges(p.WAL))
	require.Equal(t, at(6, 5000), p.End())

	// Nothing but pieces is there yet of timeline 2.
	last = segment(2, 6)
	c = withPartial(held(t, "1:2-5", "2<1@6+100"), last, 7000)
	p, err = restore.NewPlan(all, c, restore.AtName("here"), &restore.PlanOptions{Log: inPieces{last}})
	require.NoError(t, err)
	require.Equal(t, "1:2-5 2:6-6", ranges(p.WAL))
	_, err = restore.NewPlan(all, c, restore.AtName("here"), &restore.PlanOptions{Timeline: 1, Log: inPieces{last}})
	require.ErrorContains(t, err, "but on timeline 2")
}
