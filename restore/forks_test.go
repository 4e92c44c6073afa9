package restore_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// TestFourTimelines: of a cluster that was recovered twice to before an accident, each time before the last fork and in the
// same segment, and whose standby was promoted then, every branch can be recovered, to its end and to points on it.
func TestFourTimelines(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, pgtest.Newest()} {
		r := newRepo(t, false)
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: archiving()})
		c.Exec(t, `create table marks (n int)`)
		mark(t, c, 1)
		_, err := backup.Take(t.Context(), r, source(t, c), nil)
		require.NoError(t, err)
		point := func(c *pgtest.Cluster, name string) {
			c.Exec(t, `select pg_create_restore_point('`+name+`')`)
		}
		now := func(c *pgtest.Cluster) time.Time { return pgtest.Value[time.Time](t, c, `select clock_timestamp()`) }
		on := func(tl wal.Timeline) *restore.PlanOptions { return &restore.PlanOptions{Timeline: tl} }
		keep := &restore.Options{KeepArchiving: true}

		mark(t, c, 2)
		point(c, "early")
		mark(t, c, 3)
		point(c, "late")
		mark(t, c, 4)
		onFirst := now(c)
		mark(t, c, 5)
		pushAll(t, c, r)

		second := recovered(t, r, restore.AtName("late"), nil, keep, nil) // timeline 2
		mark(t, second, 20)
		point(second, "twice")
		onSecond := now(second)
		mark(t, second, 21)
		pushAll(t, second, r)

		third := recovered(t, r, restore.AtName("early"), on(1), keep, nil) // timeline 3, from before where 2 began
		mark(t, third, 30)
		point(third, "twice")
		third.Exec(t, `alter system reset recovery_target_name`, `alter system reset recovery_target_timeline`)
		third.Stop(t)
		require.NoError(t, os.WriteFile(filepath.Join(third.Data, "standby.signal"), nil, 0o600))
		pgtest.Own(t, third.Data)
		third.StartStandby(t)
		third.Exec(t, `select pg_promote()`) // timeline 4
		mark(t, third, 40)
		onFourth := now(third)
		mark(t, third, 41)
		pushAll(t, third, r)

		a, err := wal.NewArchive(r, nil)
		require.NoError(t, err)
		cov, err := a.Coverage(t.Context())
		require.NoError(t, err)
		h2, ok := cov.History(2)
		require.True(t, ok)
		h4, ok := cov.History(4)
		require.True(t, ok)
		segment := func(at wal.LSN) wal.LSN { return at / segSize }
		require.Equal(t, segment(h2.Forks[0].At), segment(h4.Forks[0].At), "both forks are in one segment")
		require.Less(t, h4.Forks[0].At, h2.Forks[0].At)

		for _, tt := range []struct {
			target   restore.Target
			timeline wal.Timeline
			want     []int32
			says     string
		}{
			{restore.Latest(), 0, []int32{1, 2, 30, 40, 41}, ""},
			{restore.Latest(), 1, []int32{1, 2, 3, 4, 5}, ""},
			{restore.Latest(), 2, []int32{1, 2, 3, 20, 21}, ""},
			{restore.Latest(), 3, []int32{1, 2, 30}, ""},
			{restore.AtName("twice"), 2, []int32{1, 2, 3, 20}, ""},
			{restore.AtName("twice"), 4, []int32{1, 2, 30}, ""},
			{restore.AtName("late"), 1, []int32{1, 2, 3}, ""},
			{restore.AtName("early"), 0, []int32{1, 2}, ""},
			{restore.AtTime(onFirst), 1, []int32{1, 2, 3, 4}, ""},
			{restore.AtTime(onSecond), 2, []int32{1, 2, 3, 20}, ""},
			{restore.AtTime(onFourth), 4, []int32{1, 2, 30, 40}, ""},
			{restore.AtTime(onFirst), 0, []int32{1, 2}, "timeline 1, which the way to timeline 4 leaves at"},
			{restore.AtLSN(h4.Forks[0].At), 4, []int32{1, 2}, ""},
			{restore.AtLSN(h2.Forks[0].At), 2, []int32{1, 2, 3}, ""},
			{restore.Immediate(), 0, []int32{1}, ""},
		} {
			p, err := restore.Prepare(t.Context(), r, tt.target, on(tt.timeline))
			require.NoError(t, err, "%s on %d", tt.target, tt.timeline)
			if tt.says == "" {
				require.Empty(t, p.Warnings)
			} else {
				require.Contains(t, p.Warnings[0], tt.says)
			}
			b := recovered(t, r, tt.target, on(tt.timeline), nil, nil)
			require.Equal(t, tt.want, marks(t, b), "%s on %d", tt.target, tt.timeline)
			b.StopImmediate(t)
		}

		// What is on another branch, and what is missing, is named.
		var unreachable *restore.UnreachableError
		_, err = restore.Prepare(t.Context(), r, restore.AtName("late"), nil)
		require.ErrorAs(t, err, &unreachable)
		require.Contains(t, unreachable.Reason, "on timeline 1, which it leaves before or does not come from: choose that")
		at := wal.SegmentAt(2, h2.Forks[0].At, segSize)
		sys := "wal/" + strconv.FormatUint(cov.System.ID, 10) + "/"
		require.NoError(t, r.Store().Delete(t.Context(), sys+at.Name()[:8]+"/"+at.Name()[8:22]+"/"+at.Name()))
		_, err = restore.Prepare(t.Context(), r, restore.AtName("twice"), on(2))
		require.ErrorAs(t, err, &unreachable)
		require.Contains(t, err.Error()+ranges(unreachable.Missing), "2:"+strconv.FormatUint(at.Number, 10), "%s", err)
		require.NoError(t, r.Store().Delete(t.Context(), sys+"00000002.history"))
		_, err = restore.Prepare(t.Context(), r, restore.Latest(), on(2))
		require.ErrorAs(t, err, &unreachable)
		require.Contains(t, unreachable.Reason, "the history of timeline 2 is not archived")
	}
}
