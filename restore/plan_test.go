package restore_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

const segSize = 16 << 20

// minute is a moment of the tests.
func minute(n int) time.Time { return time.Date(2026, 11, 21, 10, n, 0, 0, time.UTC) }

// at is a position in a segment.
func at(segment, offset int) wal.LSN { return wal.LSN(segment*segSize + offset) }

func segment(t wal.Timeline, number int) wal.Segment {
	return wal.Segment{Timeline: t, Number: uint64(number), Size: segSize}
}

// taken is a backup that stopped at a minute, and begins and ends in two segments.
func taken(stopped int, t wal.Timeline, first, last int) *backup.Summary {
	return &backup.Summary{
		ID: backup.ID(fmt.Sprintf("20261121T10%02d00Z-00000%d", stopped-1, t)), Kind: "base", Type: backup.Full, SystemID: 1,
		Timeline: t, StartLSN: at(first, 40), StopLSN: at(last, 1000), StartedAt: minute(stopped - 1), StoppedAt: minute(stopped),
		ClusterBytes: 1000, Packs: 3, WALSegmentSize: segSize,
	}
}

// held is the coverage of ranges of segments "timeline:first-last", and of histories "timeline<parent@segment+offset,...".
func held(t *testing.T, parts ...string) wal.Coverage {
	t.Helper()
	c := wal.Coverage{System: wal.System{ID: 1, SegmentSize: segSize}}
	of := func(tl wal.Timeline) *wal.TimelineCoverage {
		if found := c.Timeline(tl); found != nil {
			return found
		}
		c.Timelines = append(c.Timelines, wal.TimelineCoverage{Timeline: tl})
		return &c.Timelines[len(c.Timelines)-1]
	}
	for _, p := range parts {
		var tl, parent wal.Timeline
		var first, last, off int
		if own, forks, ok := strings.Cut(p, "<"); ok {
			_, err := fmt.Sscanf(own, "%d", &tl)
			require.NoError(t, err)
			h := wal.History{Timeline: tl}
			for f := range strings.SplitSeq(forks, ",") {
				_, err := fmt.Sscanf(f, "%d@%d+%d", &parent, &first, &off)
				require.NoError(t, err)
				h.Forks = append(h.Forks, wal.Fork{Timeline: parent, At: at(first, off)})
			}
			of(tl).History = &h
			continue
		}
		_, err := fmt.Sscanf(p, "%d:%d-%d", &tl, &first, &last)
		require.NoError(t, err)
		of(tl).Ranges = append(of(tl).Ranges, wal.Range{First: segment(tl, first), Last: segment(tl, last)})
	}
	return c
}

// ranges writes ranges as held reads them.
func ranges(rs []wal.Range) string {
	var out []string
	for _, r := range rs {
		out = append(out, fmt.Sprintf("%d:%d-%d", r.First.Timeline, r.First.Number, r.Last.Number))
	}
	return strings.Join(out, " ")
}

func TestNewPlan(t *testing.T) {
	t.Parallel()
	a, b, c := taken(10, 1, 2, 3), taken(20, 1, 5, 5), taken(30, 1, 8, 9)
	on2 := taken(40, 2, 12, 12)
	full := taken(30, 1, 8, 9)
	full.StopLSN = at(10, 0) // as of a standby that has replayed a switch
	foreign := taken(50, 9, 5, 5)
	foreign.SystemID = 2
	type backups = []*backup.Summary
	tests := []struct {
		name     string
		backups  backups
		held     []string
		target   restore.Target
		options  *restore.PlanOptions
		backup   *backup.Summary // of the plan; nil: there is none
		timeline wal.Timeline
		wal      string // of the plan, or missing
		says     string // a warning, or the reason
		before   wal.LSN
		after    wal.LSN
	}{
		// Which backup.
		{
			name: "latest from the newest", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.Latest(),
			backup: c, timeline: 1, wal: "1:8-20",
		},
		{
			name: "in any order", backups: backups{c, a, b}, held: []string{"1:2-20"}, target: restore.Latest(),
			backup: c, timeline: 1, wal: "1:8-20",
		},
		{
			name: "time after the newest", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtTime(minute(31)),
			backup: c, timeline: 1, wal: "1:8-20", says: "up to 0/15000000, holds none",
		},
		{
			name: "time when the newest stopped", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtTime(minute(30)),
			backup: b, timeline: 1, wal: "1:5-20",
		},
		{
			name: "time while the newest was taken", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtTime(minute(29).Add(time.Second)),
			backup: b, timeline: 1, wal: "1:5-20",
		},
		{
			name: "time just after the first", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtTime(minute(10).Add(time.Microsecond)),
			backup: a, timeline: 1, wal: "1:2-20",
		},
		{
			name: "time before the first", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtTime(minute(9)),
			says: "every backup ended after the target", after: a.StopLSN,
		},
		{
			name: "time before the first, which lacks its WAL", backups: backups{a, b, c}, held: []string{"1:5-20"}, target: restore.AtTime(minute(9)),
			says: "every backup ended after the target", after: b.StopLSN,
		},
		{name: "no backup", held: []string{"1:2-20"}, target: restore.Latest(), says: "there is no backup"},
		{name: "nothing at all", target: restore.AtTime(minute(1)), says: "there is no backup"},
		{
			name: "backup without any archive", backups: backups{a}, target: restore.Latest(),
			says: "needs WAL up to 0/30003E8, and segment 000000010000000000000002 is not archived", wal: "1:2-2",
		},
		{
			name: "position at a stop", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtLSN(c.StopLSN),
			backup: c, timeline: 1, wal: "1:8-10",
		},
		{
			name: "position before a stop", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtLSN(c.StopLSN - 1),
			backup: b, timeline: 1, wal: "1:5-10",
		},
		{
			name: "position in the last segment", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtLSN(at(20, 5)),
			backup: c, timeline: 1, wal: "1:8-20",
		},
		{
			name: "position after the WAL", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtLSN(at(21, 0)),
			says: "the WAL ends before it: segment 000000010000000000000015 is not archived", wal: "1:21-21", before: at(21, 0),
		},
		{
			name: "position before the first", backups: backups{a, b}, held: []string{"1:2-20"}, target: restore.AtLSN(at(3, 0)),
			says: "every backup ended after the target", after: a.StopLSN,
		},
		{
			name: "transaction, from the oldest", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtXID(700),
			backup: a, timeline: 1, wal: "1:2-20", says: "begins with the oldest backup",
		},
		{
			name: "name, from the oldest", backups: backups{c, b, a}, held: []string{"1:2-20"}, target: restore.AtName("x"),
			backup: a, timeline: 1, wal: "1:2-20", says: "begins with the oldest backup",
		},
		{
			name: "immediate", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.Immediate(),
			backup: c, timeline: 1, wal: "1:8-9",
		},
		{
			name: "newest is not restorable", backups: backups{a, b, c}, held: []string{"1:2-7"}, target: restore.Latest(),
			backup: b, timeline: 1, wal: "1:5-7",
		},

		// A forced one.
		{
			name: "forced", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.Latest(), options: &restore.PlanOptions{Backup: a.ID},
			backup: a, timeline: 1, wal: "1:2-20",
		},
		{
			name: "forced, by transaction", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtXID(700), options: &restore.PlanOptions{Backup: b.ID},
			backup: b, timeline: 1, wal: "1:5-20",
		},
		{
			name: "forced and immediate", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.Immediate(), options: &restore.PlanOptions{Backup: a.ID},
			backup: a, timeline: 1, wal: "1:2-3",
		},
		{
			name: "forced, after the target", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.AtTime(minute(15)), options: &restore.PlanOptions{Backup: c.ID},
			says: "backup 20261121T102900Z-000001 ended after the target", after: c.StopLSN,
		},
		{
			name: "forced, unknown", backups: backups{a, b, c}, held: []string{"1:2-20"}, target: restore.Latest(), options: &restore.PlanOptions{Backup: "x"},
			says: "there is no backup x",
		},

		// Gaps.
		{
			name: "latest, gap after the backup", backups: backups{a}, held: []string{"1:2-5", "1:8-9"}, target: restore.Latest(),
			says: "segment 000000010000000000000006 is missing, and there are later ones", wal: "1:6-7", before: at(6, 0),
		},
		{
			name: "latest, gap before the backup", backups: backups{a, c}, held: []string{"1:2-5", "1:8-9"}, target: restore.Latest(),
			backup: c, timeline: 1, wal: "1:8-9",
		},
		{
			name: "gap within the backup", backups: backups{c}, held: []string{"1:2-8", "1:10-12"}, target: restore.Latest(),
			says: "needs WAL up to 0/90003E8, and segment 000000010000000000000009 is not archived", wal: "1:9-9",
		},
		{
			name: "gap within the newer backup: an older one leads up to it", backups: backups{a, c}, held: []string{"1:2-8", "1:10-12"}, target: restore.Latest(),
			says: "backup 20261121T102900Z-000001 needs WAL", wal: "1:9-9", before: at(9, 0),
		},
		{
			name: "gap at the begin of a backup", backups: backups{c}, held: []string{"1:9-12"}, target: restore.Immediate(),
			says: "segment 000000010000000000000008 is not archived", wal: "1:8-8",
		},
		{
			name: "immediate, gap after the backup", backups: backups{a}, held: []string{"1:2-3", "1:8-9"}, target: restore.Immediate(),
			backup: a, timeline: 1, wal: "1:2-3",
		},
		{
			name: "immediate, with the record behind the end of a segment", backups: backups{full}, held: []string{"1:2-20"}, target: restore.Immediate(),
			backup: full, timeline: 1, wal: "1:8-10",
		},
		{
			name: "immediate, with nothing behind the end of a segment", backups: backups{full}, held: []string{"1:2-9"}, target: restore.Immediate(),
			backup: full, timeline: 1, wal: "1:8-9",
		},
		{
			name: "time, gap after the backup", backups: backups{a}, held: []string{"1:2-5", "1:8-9"}, target: restore.AtTime(minute(15)),
			backup: a, timeline: 1, wal: "1:2-5", says: "segment 000000010000000000000006 is missing: a target after 0/6000000 cannot be reached",
		},
		{
			name: "time, the gap is after a later backup", backups: backups{a, b}, held: []string{"1:2-5", "1:8-9"}, target: restore.AtTime(minute(15)),
			backup: a, timeline: 1, wal: "1:2-5",
		},
		{
			name: "time that a backup proves to be after the gap", backups: backups{a, c}, held: []string{"1:2-5", "1:8-8"}, target: restore.AtTime(minute(31)),
			options: &restore.PlanOptions{Backup: a.ID},
			says:    "segment 000000010000000000000006 is missing, and backup 20261121T102900Z-000001, which ended before the target, is later", wal: "1:6-7", before: at(6, 0),
		},
		{
			name: "position before the gap", backups: backups{a, c}, held: []string{"1:2-5", "1:8-9"}, target: restore.AtLSN(at(5, 1000)),
			backup: a, timeline: 1, wal: "1:2-5",
		},
		{
			name: "position in the gap: both sides are told", backups: backups{a, c}, held: []string{"1:2-5", "1:8-9"}, target: restore.AtLSN(at(7, 0)),
			says: "the WAL ends before it", wal: "1:6-7", before: at(6, 0), after: c.StopLSN,
		},
		{
			name: "position after the gap", backups: backups{a, c}, held: []string{"1:2-5", "1:8-9"}, target: restore.AtLSN(at(9, 2000)),
			backup: c, timeline: 1, wal: "1:8-9",
		},
		{
			name: "name, gap", backups: backups{a}, held: []string{"1:2-5", "1:8-9"}, target: restore.AtName("x"),
			backup: a, timeline: 1, wal: "1:2-5", says: "a target after 0/6000000 cannot be reached",
		},

		// Timelines.
		{
			name: "fork in a segment", backups: backups{a}, held: []string{"1:2-10", "2:10-14", "2<1@10+500"}, target: restore.Latest(),
			backup: a, timeline: 2, wal: "1:2-9 2:10-14",
		},
		{
			name: "fork at a boundary", backups: backups{a}, held: []string{"1:2-9", "2:10-14", "2<1@10+0"}, target: restore.Latest(),
			backup: a, timeline: 2, wal: "1:2-9 2:10-14",
		},
		{
			name: "fork in the backup's last segment", backups: backups{a}, held: []string{"1:2-3", "2:3-4", "2<1@3+1000"}, target: restore.Latest(),
			backup: a, timeline: 2, wal: "1:2-2 2:3-4",
		},
		{
			name: "fork in the backup's first segment", backups: backups{b}, held: []string{"1:2-5", "2:5-7", "2<1@5+1000"}, target: restore.Latest(),
			backup: b, timeline: 2, wal: "2:5-7",
		},
		{
			name: "fork within the backup: it is of an abandoned end", backups: backups{b}, held: []string{"1:2-9", "2:5-7", "2<1@5+999"}, target: restore.Latest(),
			says: "timeline 2 did not come from backup 20261121T101900Z-000001, which is on timeline 1: choose another timeline",
		},
		{
			name: "abandoned end: an older backup leads to the newest timeline", backups: backups{a, c}, held: []string{"1:2-20", "2:6-14", "2<1@6+500"}, target: restore.Latest(),
			backup: a, timeline: 2, wal: "1:2-5 2:6-14",
		},
		{
			name: "abandoned end, chosen", backups: backups{a, c}, held: []string{"1:2-20", "2:6-14", "2<1@6+500"}, target: restore.Latest(),
			options: &restore.PlanOptions{Timeline: 1}, backup: c, timeline: 1, wal: "1:8-20",
		},
		{
			name: "abandoned end, current", backups: backups{a, c}, held: []string{"1:2-20", "2:6-14", "2<1@6+500"}, target: restore.Latest(),
			options: &restore.PlanOptions{Timeline: restore.Current}, backup: c, timeline: 1, wal: "1:8-20",
		},
		{
			name: "abandoned end, immediate", backups: backups{a, c}, held: []string{"1:2-20", "2:6-14", "2<1@6+500"}, target: restore.Immediate(),
			backup: c, timeline: 1, wal: "1:8-9",
		},
		{
			name: "position on the newest timeline", backups: backups{a, c}, held: []string{"1:2-20", "2:6-14", "2<1@6+500"}, target: restore.AtLSN(at(9, 2000)),
			backup: a, timeline: 2, wal: "1:2-5 2:6-10",
		},
		{
			name: "position before the fork", backups: backups{a}, held: []string{"1:2-20", "2:10-14", "2<1@10+500"}, target: restore.AtLSN(at(7, 0)),
			backup: a, timeline: 2, wal: "1:2-8",
		},
		{
			name: "backup on the new timeline", backups: backups{a, on2}, held: []string{"1:2-10", "2:10-14", "2<1@10+500"}, target: restore.Latest(),
			backup: on2, timeline: 2, wal: "2:12-14",
		},
		{
			name: "current, of a backup on the new timeline", backups: backups{a, on2}, held: []string{"1:2-10", "2:10-14", "2<1@10+500"}, target: restore.Latest(),
			options: &restore.PlanOptions{Timeline: restore.Current}, backup: on2, timeline: 2, wal: "2:12-14",
		},
		{
			name: "parent, with a newer backup on the child", backups: backups{a, on2}, held: []string{"1:2-11", "2:10-14", "2<1@10+500"}, target: restore.Latest(),
			options: &restore.PlanOptions{Timeline: 1}, backup: a, timeline: 1, wal: "1:2-11",
		},
		{
			name: "three timelines", backups: backups{a}, held: []string{"1:2-9", "2:9-12", "3:12-15", "2<1@9+1", "3<1@9+1,2@12+1"}, target: restore.Latest(),
			backup: a, timeline: 3, wal: "1:2-8 2:9-11 3:12-15",
		},
		{
			name: "two forks in one segment", backups: backups{a}, held: []string{"1:2-9", "2:9-9", "3:9-15", "2<1@9+1", "3<1@9+1,2@9+7"}, target: restore.Latest(),
			backup: a, timeline: 3, wal: "1:2-8 3:9-15",
		},
		{
			name: "siblings: 3 came from 1", backups: backups{a}, held: []string{"1:2-9", "2:9-12", "3:6-15", "2<1@9+1", "3<1@6+1"}, target: restore.Latest(),
			backup: a, timeline: 3, wal: "1:2-5 3:6-15",
		},
		{
			name: "sibling, chosen", backups: backups{a}, held: []string{"1:2-9", "2:9-12", "3:6-15", "2<1@9+1", "3<1@6+1"}, target: restore.Latest(),
			options: &restore.PlanOptions{Timeline: 2}, backup: a, timeline: 2, wal: "1:2-8 2:9-12",
		},
		{
			name: "history is missing", backups: backups{a}, held: []string{"1:2-9", "2:9-12"}, target: restore.Latest(),
			says: "the history of timeline 2 is not archived",
		},
		{
			name: "history is missing, of the backup's own", backups: backups{on2}, held: []string{"2:9-12"}, target: restore.Latest(),
			backup: on2, timeline: 2, wal: "2:12-12",
		},
		{
			name: "unknown timeline", backups: backups{a}, held: []string{"1:2-9"}, target: restore.Latest(),
			options: &restore.PlanOptions{Timeline: 7}, says: "the history of timeline 7 is not archived",
		},
		{
			name: "timeline without WAL yet", backups: backups{a}, held: []string{"1:2-9", "2<1@9+1"}, target: restore.Latest(),
			backup: a, timeline: 1, wal: "1:2-9", says: "timeline 2 has begun, but none of its WAL is archived: recovery ends on timeline 1",
		},
		{
			name: "gap before the fork", backups: backups{a}, held: []string{"1:2-5", "2:9-12", "2<1@9+1"}, target: restore.Latest(),
			says: "segment 000000010000000000000006 is missing, and there are later ones", wal: "1:6-8", before: at(6, 0),
		},
		{
			name: "gap before the fork, with an abandoned end", backups: backups{a}, held: []string{"1:2-5", "1:11-20", "2:12-12", "2<1@9+1"}, target: restore.Latest(),
			says: "segment 000000010000000000000006 is missing", wal: "1:6-8 2:9-11", before: at(6, 0),
		},
		{
			name: "gap at the fork", backups: backups{a}, held: []string{"1:2-20", "2:10-12", "2<1@9+1"}, target: restore.Latest(),
			says: "segment 000000020000000000000009 is missing", wal: "2:9-9", before: at(9, 0),
		},
		{
			name: "position behind a gap at the fork", backups: backups{a}, held: []string{"1:2-20", "2:10-12", "2<1@9+1"}, target: restore.AtLSN(at(11, 0)),
			says: "the WAL ends before it", wal: "2:9-9", before: at(9, 0),
		},
		{
			name: "time, gap before the fork", backups: backups{a}, held: []string{"1:2-5", "2:9-12", "2<1@9+1"}, target: restore.AtTime(minute(15)),
			backup: a, timeline: 2, wal: "1:2-5", says: "segment 000000010000000000000006 is missing: a target after",
		},
		{
			name: "time that a backup on the new timeline proves to be after the gap", backups: backups{a, on2}, held: []string{"1:2-5", "2:9-11", "2<1@9+1"},
			target: restore.AtTime(minute(45)), says: "needs WAL up to", wal: "2:12-12", before: at(6, 0),
		},

		// Other clusters.
		{name: "backup of another cluster", backups: backups{foreign}, held: []string{"1:2-20"}, target: restore.Latest(), says: "there is no backup"},
		{
			name: "backup of another cluster beside ours", backups: backups{a, foreign}, held: []string{"1:2-20"}, target: restore.Latest(),
			backup: a, timeline: 1, wal: "1:2-20",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := held(t, tt.held...)
			if len(tt.held) == 0 {
				c = wal.Coverage{}
			}
			var given []backup.Summary
			for _, b := range tt.backups {
				given = append(given, *b)
			}
			arguments := func() string { return fmt.Sprintf("%v %+v %+v", tt.backups, c, tt.options) }
			was := arguments()
			p, err := restore.NewPlan(tt.backups, c, tt.target, tt.options)
			require.Equal(t, was, arguments(), "arguments are left as they are")
			for i, b := range tt.backups {
				require.Equal(t, given[i], *b)
			}
			if tt.backup == nil {
				require.Nil(t, p)
				var u *restore.UnreachableError
				require.ErrorAs(t, err, &u)
				require.Equal(t, tt.target, u.Target)
				require.Contains(t, u.Reason, tt.says)
				require.Equal(t, tt.wal, ranges(u.Missing))
				requirePoint(t, tt.before, u.Before)
				requirePoint(t, tt.after, u.After)
				return
			}
			require.NoError(t, err)
			require.Same(t, tt.backup, p.Backup)
			require.Equal(t, tt.target, p.Target)
			require.Equal(t, tt.timeline, p.Timeline)
			require.Equal(t, tt.wal, ranges(p.WAL))
			require.Contains(t, strings.Join(p.Warnings, "\n"), tt.says)
			segments := 0
			for _, r := range p.WAL {
				segments += int(r.Last.Number-r.First.Number) + 1
			}
			require.Equal(t, int64(segments)*segSize, p.WALBytes)
			require.Equal(t, int64(1000), p.RestoreBytes)
			require.GreaterOrEqual(t, p.Requests, segments+3)
			require.Equal(t, p.WAL[len(p.WAL)-1].Last.End(), p.End())
		})
	}
}

func requirePoint(t *testing.T, want wal.LSN, got *restore.Point) {
	t.Helper()
	if want == 0 {
		require.Nil(t, got)
		return
	}
	require.NotNil(t, got)
	require.Equal(t, want, got.LSN)
}

func TestTargetsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, target := range []restore.Target{
		{},
		{Kind: "never"},
		restore.AtTime(time.Time{}), restore.AtLSN(0), restore.AtXID(0), restore.AtXID(1<<32 + 2), restore.AtName(""),
		restore.AtName(strings.Repeat("x", 64)), restore.Latest().Before(), restore.Immediate().Before(), restore.AtName("x").Before(),
	} {
		_, err := restore.NewPlan(nil, wal.Coverage{}, target, nil)
		var u *restore.UnreachableError
		require.Error(t, err, "%+v", target)
		require.NotErrorAs(t, err, &u, "it is not the archive that is to blame")
		require.ErrorContains(t, err, "restore: ")
	}
}

func TestTargetsDescribeThemselves(t *testing.T) {
	t.Parallel()
	for want, target := range map[string]restore.Target{
		"to the end of the archive":                    restore.Latest(),
		"to the consistent state of the backup":        restore.Immediate(),
		"to 2026-11-21T10:15:00.123456Z":               restore.AtTime(time.Date(2026, 11, 21, 11, 15, 0, 123456789, time.FixedZone("", 3600))),
		"to just before 2026-11-21T10:15:00Z":          restore.AtTime(minute(15)).Before(),
		"to 16/B374D848":                               restore.AtLSN(0x16B374D848),
		"to just before 16/B374D848":                   restore.AtLSN(0x16B374D848).Before(),
		"to transaction 4711":                          restore.AtXID(4711),
		`to restore point "before\nthe \"migration\""`: restore.AtName("before\nthe \"migration\""),
	} {
		require.Equal(t, want, target.String())
	}
}

// Scripts rely on these documents.
func TestPlanAsJSON(t *testing.T) {
	t.Parallel()
	p, err := restore.NewPlan([]*backup.Summary{taken(10, 1, 2, 3)}, held(t, "1:2-9", "2:9-12", "2<1@9+1"), restore.AtTime(minute(15)), nil)
	require.NoError(t, err)
	got, err := json.Marshal(p)
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(got, &doc))
	require.Len(t, doc["warnings"], 1)
	delete(doc, "warnings")
	delete(doc, "reason")
	require.Equal(t, map[string]any{
		"backup": "20261121T100900Z-000001", "system_id": "1", "target": map[string]any{"kind": "time", "time": "2026-11-21T10:15:00Z"}, "timeline": 2.0,
		"wal": []any{
			map[string]any{"timeline": 1.0, "from": "000000010000000000000002", "to": "000000010000000000000008"},
			map[string]any{"timeline": 2.0, "from": "000000020000000000000009", "to": "00000002000000000000000C"},
		},
		"wal_bytes": float64(11 * segSize), "restore_bytes": 1000.0, "space_bytes": float64(11*segSize + 1000), "requests": 19.0, "reachable": true,
		"nearest": map[string]any{"before": nil, "after": nil},
		"settings": map[string]any{
			"restore_command": "false", "recovery_target_time": "2026-11-21 10:15:00.000000+00", "recovery_target_inclusive": "on",
			"recovery_target_action": "promote", "recovery_target_timeline": "2", "recovery_end_command": "", "archive_cleanup_command": "",
			"recovery_min_apply_delay": "0", "archive_mode": "off",
		},
	}, doc)
	given := p.Settings(&restore.Options{RestoreCommand: "fetch %f %p", Action: restore.Pause, KeepArchiving: true})
	require.Equal(t, "fetch %f %p", given["restore_command"])
	require.Equal(t, "pause", given["recovery_target_action"])
	require.NotContains(t, given, "archive_mode")

	_, err = restore.NewPlan([]*backup.Summary{taken(10, 1, 2, 3), taken(30, 1, 8, 9)}, held(t, "1:2-5", "1:8-9"), restore.AtLSN(at(7, 0)), nil)
	var u *restore.UnreachableError
	require.ErrorAs(t, fmt.Errorf("wrapped: %w", err), &u)
	require.EqualError(t, u, "restore: cannot recover to 0/7000000: the WAL ends before it: segment 000000010000000000000006 is not archived; "+
		"the nearest before is 0/6000000; the nearest after is 2026-11-21T10:30:00Z (0/90003E8)")
	got, err = json.Marshal(u)
	require.NoError(t, err)
	doc = nil
	require.NoError(t, json.Unmarshal(got, &doc))
	require.Equal(t, map[string]any{
		"target": map[string]any{"kind": "lsn", "lsn": "0/7000000"}, "wal": []any{}, "wal_bytes": 0.0, "restore_bytes": 0.0, "space_bytes": 0.0, "requests": 0.0,
		"reachable": false, "reason": "the WAL ends before it: segment 000000010000000000000006 is not archived", "backup": nil, "timeline": nil,
		"missing": []any{map[string]any{"timeline": 1.0, "from": "000000010000000000000006", "to": "000000010000000000000007"}},
		"nearest": map[string]any{
			"before": map[string]any{"lsn": "0/6000000"}, "after": map[string]any{"time": "2026-11-21T10:30:00Z", "lsn": "0/90003E8"},
		},
		"warnings": []any{},
	}, doc)
}

func TestPlanPrintsItself(t *testing.T) {
	t.Parallel()
	p, err := restore.NewPlan([]*backup.Summary{taken(10, 1, 2, 3)}, held(t, "1:2-9"), restore.AtTime(minute(15)), nil)
	require.NoError(t, err)
	require.Equal(t, `recover to 2026-11-21T10:15:00Z, on timeline 1
  backup   20261121T100900Z-000001: full, 0 files of 1000 bytes, consistent from 0/30003E8 at 2026-11-21 10:10:00Z
  WAL      000000010000000000000002 to 000000010000000000000009
  warning  PostgreSQL ends recovery at the first commit after the time; when the archived WAL, up to 0/A000000, holds none, it will refuse to start rather than end early
`, p.String())
}
