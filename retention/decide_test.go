package retention_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// summary is a backup that ended so many days before noon.
func summary(name string, days int, change ...func(*backup.Summary)) *backup.Summary {
	b := &backup.Summary{
		ID: backup.ID(name), SystemID: 7, Timeline: 1, WALSegmentSize: wal.DefaultSegmentSize,
		StartLSN: wal.LSN(100-days) << 24, StopLSN: wal.LSN(100-days)<<24 + 1<<20, StoppedAt: noon.AddDate(0, 0, -days),
	}
	b.StartedAt = b.StoppedAt.Add(-time.Hour)
	for _, c := range change {
		c(b)
	}
	return b
}

// decide checks that each backup has one verdict with reasons.
func decide(t *testing.T, p retention.Policy, all []*backup.Summary, archives []wal.Coverage) retention.Decision {
	t.Helper()
	d, err := p.Decide(all, archives, noon)
	require.NoError(t, err)
	require.Len(t, all, len(d.Keep)+len(d.Drop))
	seen := map[backup.ID]bool{}
	for _, v := range slices.Concat(d.Keep, d.Drop) {
		require.NotEmpty(t, v.Reasons)
		require.False(t, seen[v.Backup])
		seen[v.Backup] = true
	}
	return d
}

func kept(d retention.Decision) []string {
	var keep []string
	for _, v := range d.Keep {
		keep = append(keep, string(v.Backup))
	}
	return keep
}

func TestDecide(t *testing.T) {
	pinned := func(b *backup.Summary) { b.Pinned = true }
	other := func(b *backup.Summary) { b.SystemID = 8 }
	branch := func(b *backup.Summary) { b.Timeline = 2 }
	day := 24 * time.Hour
	tests := []struct {
		name   string
		policy retention.Policy
		all    []*backup.Summary
		keep   []string
		floors []string // system identifier and segment
	}{
		{"nothing there", retention.Policy{KeepLast: 1}, nil, nil, nil},
		{"no rule", retention.Policy{}, []*backup.Summary{summary("a", 3), summary("b", 1)}, []string{"a", "b"}, []string{"7 000000010000000000000061"}},
		{"last two", retention.Policy{KeepLast: 2}, []*backup.Summary{summary("a", 3), summary("b", 2), summary("c", 1)}, []string{"b", "c"}, []string{"7 000000010000000000000062"}},
		{"order of the catalogue does not matter", retention.Policy{KeepLast: 1}, []*backup.Summary{summary("c", 1), summary("a", 3)}, []string{"c"}, []string{"7 000000010000000000000063"}},
		{"the newest, however old", retention.Policy{Window: day}, []*backup.Summary{summary("a", 30), summary("b", 20)}, []string{"b"}, []string{"7 000000010000000000000050"}},
		{"a window needs one from before it", retention.Policy{Window: 7 * day}, []*backup.Summary{summary("a", 20), summary("b", 10), summary("c", 5), summary("d", 1)}, []string{"b", "c", "d"}, []string{"7 00000001000000000000005A"}},
		{"just at the edge of the window", retention.Policy{Window: 7 * day}, []*backup.Summary{summary("a", 8), summary("b", 7)}, []string{"a", "b"}, []string{"7 00000001000000000000005C"}},
		{"pinned", retention.Policy{KeepLast: 1}, []*backup.Summary{summary("a", 30, pinned), summary("b", 2), summary("c", 1)}, []string{"a", "c"}, []string{"7 000000010000000000000046"}},
		{"clusters are apart", retention.Policy{KeepLast: 1}, []*backup.Summary{summary("a", 3), summary("b", 2, other), summary("c", 1, other)}, []string{"a", "c"}, []string{"7 000000010000000000000061", "8 000000010000000000000063"}},
		{"by time, not by timeline", retention.Policy{KeepLast: 1}, []*backup.Summary{summary("a", 4), summary("b", 3, branch), summary("c", 1)}, []string{"b", "c"}, []string{"7 000000010000000000000063", "7 000000020000000000000061"}},
		{"a floor for each timeline", retention.Policy{KeepLast: 2}, []*backup.Summary{summary("a", 3), summary("b", 1, branch)}, []string{"a", "b"}, []string{"7 000000010000000000000061", "7 000000020000000000000061"}}, // where it forked is not known
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decide(t, tt.policy, tt.all, nil)
			var floors []string
			for _, f := range d.Floors {
				floors = append(floors, fmt.Sprint(f.SystemID, " ", f.Segment))
			}
			require.ElementsMatch(t, tt.keep, kept(d))
			require.Equal(t, tt.floors, floors)
		})
	}
}
