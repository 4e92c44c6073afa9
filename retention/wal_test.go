package retention_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

func seg(t wal.Timeline, n uint64) wal.Segment {
	return wal.Segment{Timeline: t, Number: n, Size: wal.DefaultSegmentSize}
}

// line is a timeline of which a run of segments is held, with its forks: pairs of a timeline and a segment's number,
// in the middle of which it was left.
func line(t wal.Timeline, first, last uint64, forks ...uint64) wal.TimelineCoverage {
	tc := wal.TimelineCoverage{Timeline: t, Ranges: []wal.Range{{First: seg(t, first), Last: seg(t, last)}}}
	if len(forks) > 0 {
		tc.History = &wal.History{Timeline: t}
	}
	for i := 0; i < len(forks); i += 2 {
		tc.History.Forks = append(tc.History.Forks, wal.Fork{Timeline: wal.Timeline(forks[i]), At: seg(1, forks[i+1]).Start() + 1<<23})
	}
	return tc
}

func archive(lines ...wal.TimelineCoverage) []wal.Coverage {
	return []wal.Coverage{{System: wal.System{ID: 7, SegmentSize: wal.DefaultSegmentSize}, Timelines: lines}}
}

func spans(all []retention.Span) (text []string) {
	for _, s := range all {
		last := "on"
		if s.Last != nil {
			last = fmt.Sprint(s.Last.Number)
		}
		text = append(text, fmt.Sprintf("%d: %d-%s", s.First.Timeline, s.First.Number, last))
	}
	return text
}

// A backup of summary takes one segment, whose number is 100 less its days before noon.
func TestWAL(t *testing.T) {
	on := func(t wal.Timeline) func(*backup.Summary) { return func(b *backup.Summary) { b.Timeline = t } }
	pinned := func(b *backup.Summary) { b.Pinned = true }
	wide := func(b *backup.Summary) { b.StopLSN = b.LastSegment().End() }
	ended := func(l wal.TimelineCoverage, days int) wal.TimelineCoverage {
		l.Ranges[0].LastCommit = noon.AddDate(0, 0, -days)
		return l
	}
	day := 24 * time.Hour
	tests := []struct {
		name       string
		policy     retention.Policy
		all        []*backup.Summary
		archives   []wal.Coverage
		keep       []string
		wal, drops []string
	}{
		{
			"no backup yet",
			retention.Policy{KeepLast: 1},
			nil, archive(line(1, 5, 9), line(2, 8, 9, 1, 8)),
			nil,
			[]string{"1: 0-on", "2: 0-on"},
			nil,
		},
		{
			"from the oldest kept on",
			retention.Policy{KeepLast: 2},
			[]*backup.Summary{summary("a", 30), summary("b", 20), summary("c", 10)},
			archive(line(1, 60, 99)),
			[]string{"b", "c"},
			[]string{"1: 80-on"},
			[]string{"1: 60-79"},
		},
		{
			"the parent's on to the fork, and beyond",
			retention.Policy{KeepLast: 1},
			[]*backup.Summary{summary("a", 30), summary("b", 20)},
			archive(line(1, 60, 95), line(2, 90, 99, 1, 90)),
			[]string{"b"},
			[]string{"1: 80-on", "2: 90-on"},
			[]string{"1: 60-79"},
		},
		{
			"a child that was left before the kept backup",
			retention.Policy{KeepLast: 1},
			[]*backup.Summary{summary("a", 30), summary("b", 10, on(3))},
			archive(line(1, 60, 95), line(2, 75, 99, 1, 75), line(3, 76, 99, 1, 76)),
			[]string{"b"},
			[]string{"3: 90-on"},
			[]string{"1: 60-95", "2: 75-99", "3: 76-89"},
		},
		{
			"the newest timeline has no backup, and forked before the newest",
			retention.Policy{KeepLast: 1},
			[]*backup.Summary{summary("a", 30), summary("b", 10)},
			archive(line(1, 60, 99), line(2, 75, 99, 1, 75)),
			[]string{"a", "b"},
			[]string{"1: 70-on", "2: 75-on"},
			[]string{"1: 60-69"},
		},
		{
			"no backup leads to the newest timeline",
			retention.Policy{KeepLast: 1},
			[]*backup.Summary{summary("b", 10)},
			archive(line(1, 60, 99), line(2, 75, 99, 1, 75)),
			[]string{"b"},
			[]string{"1: 90-on", "2: 0-on"},
			[]string{"1: 60-89"},
		},
		{
			"the history is missing",
			retention.Policy{KeepLast: 1},
			[]*backup.Summary{summary("b", 10)},
			archive(line(1, 60, 99), line(2, 75, 99)),
			[]string{"b"},
			[]string{"1: 90-on", "2: 90-on"},
			[]string{"1: 60-89", "2: 75-89"},
		},
		{
			"those without their WAL do not count",
			retention.Policy{KeepLast: 1},
			[]*backup.Summary{summary("a", 30), summary("b", 20), summary("c", 10)},
			archive(line(1, 60, 85)),
			[]string{"b", "c"},
			[]string{"1: 80-on"},
			[]string{"1: 60-79"},
		},
		{
			"WAL not as long as backups",
			retention.Policy{KeepLast: 4, KeepWAL: 15 * day},
			[]*backup.Summary{summary("a", 40), summary("b", 30, wide), summary("c", 20), summary("d", 10)},
			archive(line(1, 50, 99)),
			[]string{"a", "b", "c", "d"},
			[]string{"1: 60-60", "1: 70-71", "1: 80-on"},
			[]string{"1: 50-59", "1: 61-69", "1: 72-79"},
		},
		{
			"WAL not as long as backups, over a fork",
			retention.Policy{KeepLast: 9, KeepWAL: 15 * day},
			[]*backup.Summary{summary("a", 40), summary("b", 30), summary("c", 10, on(2))},
			archive(line(1, 50, 84), line(2, 85, 99, 1, 85)),
			[]string{"a", "b", "c"},
			[]string{"1: 60-60", "1: 70-on", "2: 85-on"},
			[]string{"1: 50-59", "1: 61-69"},
		},
		{
			"WAL not as long as backups, and a timeline that was left",
			retention.Policy{KeepLast: 9, KeepWAL: 15 * day},
			[]*backup.Summary{summary("a", 40), summary("c", 20, on(2))},
			archive(ended(line(1, 50, 84), 18), line(2, 75, 99, 1, 75)),
			[]string{"a", "c"},
			[]string{"1: 60-60", "2: 80-on"},
			[]string{"1: 50-59", "1: 61-84", "2: 75-79"},
		},
		{
			"WAL not as long as backups, of a cluster that was stopped",
			retention.Policy{KeepLast: 9, KeepWAL: 5 * day},
			[]*backup.Summary{summary("a", 40), summary("b", 30)},
			archive(ended(line(1, 50, 84), 18)),
			[]string{"a", "b"},
			[]string{"1: 60-60", "1: 70-on"},
			[]string{"1: 50-59", "1: 61-69"},
		},
		{
			"WAL longer than backups",
			retention.Policy{KeepLast: 1, KeepWAL: 15 * day},
			[]*backup.Summary{summary("d", 10)},
			archive(wal.TimelineCoverage{Timeline: 1, Ranges: []wal.Range{
				{First: seg(1, 50), Last: seg(1, 69), LastCommit: noon.AddDate(0, 0, -31)},
				{First: seg(1, 70), Last: seg(1, 79), LastCommit: noon.AddDate(0, 0, -21)},
				{First: seg(1, 80), Last: seg(1, 89), LastCommit: noon.AddDate(0, 0, -11)},
				{First: seg(1, 90), Last: seg(1, 99)},
			}}),
			[]string{"d"},
			[]string{"1: 80-on"},
			[]string{"1: 50-69", "1: 70-79"},
		},
		{
			"a window on the way to each timeline that goes on",
			retention.Policy{Window: 25 * day},
			[]*backup.Summary{summary("a", 40), summary("b", 30), summary("c", 10, on(2))},
			archive(line(1, 50, 99), line(2, 65, 99, 1, 65)),
			[]string{"a", "b", "c"},
			[]string{"1: 60-on", "2: 65-on"},
			[]string{"1: 50-59"},
		},
		{
			"a window, and a timeline that was left before",
			retention.Policy{Window: 15 * day},
			[]*backup.Summary{summary("a", 40), summary("b", 20, on(2)), summary("c", 10, on(2))},
			archive(ended(line(1, 50, 74), 25), line(2, 65, 99, 1, 65)),
			[]string{"b", "c"},
			[]string{"2: 80-on"},
			[]string{"1: 50-74", "2: 65-79"},
		},
		{
			"a pin keeps its WAL",
			retention.Policy{KeepLast: 1, KeepWAL: day},
			[]*backup.Summary{summary("a", 40, pinned), summary("b", 20), summary("c", 10)},
			archive(line(1, 50, 99)),
			[]string{"a", "c"},
			[]string{"1: 60-60", "1: 90-on"},
			[]string{"1: 50-59", "1: 61-89"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decide(t, tt.policy, tt.all, tt.archives)
			require.Equal(t, tt.keep, kept(d))
			require.Equal(t, tt.wal, spans(d.WAL))
			require.Equal(t, tt.drops, spans(d.DropWAL))
			for _, s := range d.WAL {
				require.NotEmpty(t, s.Reason)
			}
		})
	}
}
