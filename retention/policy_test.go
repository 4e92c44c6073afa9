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

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// summary is a backup that ended so many days before noon.
func summary(name string, days int, change ...func(*backup.Summary)) *backup.Summary {
	b := &backup.Summary{
		ID: backup.ID(name), SystemID: 7, Timeline: 1, WALSegmentSize: wal.DefaultSegmentSize,
		StartLSN: wal.LSN(100-days) << 24, StopLSN: wal.LSN(100-days)<<24 + 1<<20, StoppedAt: noon.AddDate(0, 0, -days),
	}
	for _, c := range change {
		c(b)
	}
	return b
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
		{"by time, not by timeline", retention.Policy{KeepLast: 1}, []*backup.Summary{summary("a", 3, branch), summary("b", 1)}, []string{"b"}, []string{"7 000000010000000000000063"}},
		{"a floor for each timeline", retention.Policy{KeepLast: 2}, []*backup.Summary{summary("a", 3), summary("b", 1, branch)}, []string{"a", "b"}, []string{"7 000000010000000000000061", "7 000000020000000000000063"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.policy.Decide(tt.all, noon)
			require.Len(t, d.Verdicts, len(tt.all))
			var keep, floors []string
			for i, v := range d.Verdicts {
				require.Equal(t, tt.all[i].ID, v.Backup)
				require.NotEmpty(t, v.Reasons)
				if v.Keep {
					keep = append(keep, string(v.Backup))
				}
			}
			for _, f := range d.Floors {
				floors = append(floors, fmt.Sprint(f.SystemID, " ", f.Segment))
			}
			require.ElementsMatch(t, tt.keep, keep)
			require.Equal(t, tt.floors, floors)
		})
	}
}

func ExamplePolicy_Decide() {
	policy := retention.Policy{KeepLast: 1, Window: 7 * 24 * time.Hour}
	d := policy.Decide([]*backup.Summary{summary("old", 30), summary("new", 1)}, noon)
	for _, v := range d.Verdicts {
		fmt.Println(v.Backup, v.Keep, v.Reasons)
	}
	// Output:
	// old true [leads to the beginning of the window of 168h0m0s]
	// new true [the newest backup number 1 of the last 1 within the window of 168h0m0s]
}
