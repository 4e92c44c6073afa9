package restore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

func TestWindows(t *testing.T) {
	t.Parallel()
	a, b, c := taken(10, 1, 2, 3), taken(20, 1, 5, 5), taken(30, 1, 8, 9)
	on2 := taken(40, 2, 12, 12)
	foreign := taken(50, 1, 5, 5)
	foreign.SystemID = 2
	window := func(t wal.Timeline, from *backup.Summary, to wal.LSN, until int) restore.Window {
		return restore.Window{
			Timeline: t, Backup: from.ID, FromLSN: from.StopLSN, FromTime: from.StoppedAt, ToLSN: to, ToTime: minute(until),
		}
	}
	type backups = []*backup.Summary
	for _, test := range []struct {
		name    string
		backups backups
		held    []string
		want    []restore.Window
	}{
		{"nothing", nil, nil, nil},
		{"no backup", nil, []string{"1:1-9"}, nil},
		{"no WAL", backups{a}, nil, nil},
		{"another cluster's backup", backups{foreign}, []string{"1:1-9"}, nil},
		{"one", backups{a}, []string{"1:1-9"}, []restore.Window{window(1, a, at(10, 0), 10)}},
		{"not consistent", backups{a}, []string{"1:1-2"}, nil},
		{"three in one, in any order", backups{c, a, b}, []string{"1:1-9"}, []restore.Window{window(1, a, at(10, 0), 30)}},
		{"a gap", backups{a, b, c}, []string{"1:1-6", "1:8-9"}, []restore.Window{window(1, a, at(7, 0), 20), window(1, c, at(10, 0), 30)}},
		{"a gap in a backup", backups{a, b}, []string{"1:1-4", "1:6-9"}, []restore.Window{window(1, a, at(5, 0), 10)}},
		{"a timeline", backups{a, on2}, []string{"1:1-9", "2:8-13", "2<1@8+500"}, []restore.Window{
			window(1, a, at(10, 0), 10), window(2, a, at(14, 0), 40),
		}},
		{"a timeline that left before a backup's end", backups{a, c}, []string{"1:1-9", "2:8-13", "2<1@8+500"}, []restore.Window{
			window(1, a, at(10, 0), 30), window(2, a, at(14, 0), 10),
		}},
		{"a gap before the fork", backups{a, on2}, []string{"1:1-6", "2:8-13", "2<1@8+500"}, []restore.Window{
			window(1, a, at(7, 0), 10), window(2, on2, at(14, 0), 40),
		}},
		{"no history", backups{a, on2}, []string{"1:1-9", "2:8-13"}, []restore.Window{window(1, a, at(10, 0), 10), window(2, on2, at(14, 0), 40)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, restore.Windows(test.backups, held(t, test.held...)))
		})
	}
}

// A window ends with the last commit, where that is known, and with what there is of a segment.
func TestWindowsEnd(t *testing.T) {
	t.Parallel()
	a := taken(10, 1, 2, 3)
	cover := held(t, "1:1-9")
	cover.Timelines[0].Ranges[0].LastCommit = minute(11)
	require.Equal(t, minute(11), restore.Windows([]*backup.Summary{a}, cover)[0].ToTime)
	later := taken(20, 1, 5, 5) // when nothing had been committed since: no time after that can be recovered
	require.Equal(t, minute(11), restore.Windows([]*backup.Summary{a, later}, cover)[0].ToTime)
	none := taken(12, 1, 4, 4) // and if there was no commit since the first of two, no time at all
	require.Equal(t, minute(12), restore.Windows([]*backup.Summary{none, later}, cover)[0].ToTime)
	promoted := held(t, "1:1-7", "2:8-9", "2<1@8+500")
	promoted.Timelines[0].Ranges[0].LastCommit = minute(11)
	w := restore.Windows([]*backup.Summary{a}, promoted)
	require.Equal(t, wal.Timeline(2), w[len(w)-1].Timeline)
	require.Equal(t, minute(11), w[len(w)-1].ToTime)
	cover.Timelines[0].Partial = &wal.Partial{Segment: segment(1, 10), End: at(10, 500)}
	w = restore.Windows([]*backup.Summary{a}, cover)
	require.Equal(t, at(10, 500), w[0].ToLSN)
	require.Equal(t, minute(11), w[0].ToTime)
}

// TestWindowsAndPlans: what is in a window can be planned for, and nothing that is in none.
func TestWindowsAndPlans(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 5))
		all, cover := randomArchive(t, random)
		windows := restore.Windows(all, cover)
		for _, w := range windows {
			for _, lsn := range []wal.LSN{w.FromLSN, w.ToLSN - 1} {
				_, err := restore.NewPlan(all, cover, restore.AtLSN(lsn), &restore.PlanOptions{Timeline: w.Timeline})
				require.NoError(t, err, "seed %d, timeline %d, %s", seed, w.Timeline, lsn)
			}
		}
		for _, tc := range cover.Timelines {
			h, ok := cover.History(tc.Timeline)
			if !ok {
				continue
			}
			for n := range 24 {
				lsn := at(n, random.IntN(segSize))
				_, err := restore.NewPlan(all, cover, restore.AtLSN(lsn), &restore.PlanOptions{Timeline: tc.Timeline})
				in := func(w restore.Window) bool { return w.FromLSN <= lsn && lsn < w.ToLSN }
				own := slices.ContainsFunc(windows, func(w restore.Window) bool { return w.Timeline == tc.Timeline && in(w) })
				// Before the fork, what leads to the timeline's ancestors only will do.
				before := slices.ContainsFunc(windows, func(w restore.Window) bool {
					left, ok := h.Until(w.Timeline)
					return ok && left != 0 && in(w)
				})
				if own {
					require.NoError(t, err, "seed %d, timeline %d, %s", seed, tc.Timeline, lsn)
				}
				if err == nil {
					require.True(t, own || before, "seed %d, timeline %d, %s", seed, tc.Timeline, lsn)
				}
			}
		}
	}
}

// randomArchive is an archive of a few timelines with gaps, and backups.
func randomArchive(t *testing.T, random *rand.Rand) ([]*backup.Summary, wal.Coverage) {
	t.Helper()
	var parts []string
	forks := map[int]string{1: ""}
	begins := map[int]int{1: 1}
	var all []*backup.Summary
	for tl := 1; tl <= 1+random.IntN(4); tl++ {
		if tl > 1 {
			parent := 1 + random.IntN(tl-1)
			fork := begins[parent] + random.IntN(8)
			forks[tl] = fmt.Sprintf("%d@%d+%d", parent, fork, 8+random.IntN(segSize-8))
			if forks[parent] != "" {
				forks[tl] = forks[parent] + "," + forks[tl]
			}
			begins[tl] = fork
			if random.IntN(8) > 0 {
				parts = append(parts, fmt.Sprintf("%d<%s", tl, forks[tl]))
			}
		}
		from := begins[tl]
		for range 1 + random.IntN(3) {
			to := from + random.IntN(6)
			parts = append(parts, fmt.Sprintf("%d:%d-%d", tl, from, to))
			if random.IntN(2) == 0 {
				first := from + random.IntN(to-from+1)
				b := taken(10+len(all), wal.Timeline(tl), first, first+random.IntN(2))
				b.StopLSN = max(b.StopLSN, b.StartLSN+1000)
				b.StoppedAt = b.StoppedAt.Add(time.Duration(first) * time.Second)
				all = append(all, b)
			}
			from = to + 2 + random.IntN(2)
		}
	}
	return all, held(t, parts...)
}
