package retention_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
)

var days = flag.Int("days", 35, "days of hourly backups that are simulated: 3650 are ten years")

// Ten years of hourly backups, kept as grandfather, father and son: neither what is stored nor what a day costs in requests
// grows with the age of the repository.
func TestYears(t *testing.T) {
	t.Parallel()
	var at clock
	at.set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	now := func() time.Time { return at.add(time.Millisecond) }
	var mu sync.Mutex
	requests := map[string]int{}
	store := repotest.Mem(&repotest.MemOptions{Now: now})
	watched := repo.Observe(store, func(o repo.Op) {
		mu.Lock()
		defer mu.Unlock()
		requests[o.Name]++
	})
	r, err := repo.Init(t.Context(), watched, &repo.Options{Now: now})
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	cluster := backuptest.New(&backuptest.Options{Logged: true, Now: now})
	policy := retention.Policy{KeepHourly: 24, KeepDaily: 7, KeepWeekly: 5, KeepMonthly: 12, KeepYearly: 10, Window: 48 * time.Hour, KeepWAL: 72 * time.Hour}
	const most = 24 + 7 + 5 + 12 + 10 + 48 + 2

	var early, earlyBytes int // requests of a day, and bytes, once all that can be kept in a month is
	for day := range *days {
		for hour := range 24 {
			at.set(now().Truncate(time.Hour).Add(time.Hour))
			cluster.Write("base/5/16384", backuptest.Pages(0, 4, uint64(cluster.LSN()), fmt.Sprint(day, hour)))
			cluster.Commit()
			cluster.Switch(1)
			require.NoError(t, cluster.Archive(t.Context(), a))
			cluster.Recycle()
			kind := backup.Incremental
			if hour == 0 {
				kind = backup.Differential
			}
			if hour == 0 && day%7 == 0 {
				kind = backup.Full
			}
			_, err := backup.Take(t.Context(), r, cluster, &backup.Options{Type: kind, Jobs: 1})
			require.NoError(t, err)
		}
		plan, err := retention.NewPlan(t.Context(), r, policy, nil)
		require.NoError(t, err)
		_, err = plan.Apply(t.Context(), r)
		require.NoError(t, err)
		require.LessOrEqual(t, len(plan.Keep), most)

		total := 0
		for _, n := range requests {
			total += n
		}
		objects, bytes := 0, 0
		for info, err := range store.List(t.Context(), "") {
			require.NoError(t, err)
			objects, bytes = objects+1, bytes+int(info.Size)
		}
		switch {
		case day == 30:
			early, earlyBytes = total, bytes
		case day > 30: // more backups are kept by months and years, and each costs a request or two
			require.Less(t, total, early*3/2, "requests of day %d", day)
			require.Less(t, bytes, earlyBytes*2, "bytes on day %d", day)
		}
		if day%365 == 364 || day == *days-1 {
			counts := ""
			for _, name := range slices.Sorted(maps.Keys(requests)) {
				counts += fmt.Sprintf(" %s %d", name, requests[name])
			}
			t.Logf("day %d: %d backups, %d objects, %d KiB; requests of the day:%s", day+1, len(plan.Keep), objects, bytes>>10, counts)
		}
		clear(requests)
	}
}
