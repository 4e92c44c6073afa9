package backup_test

import (
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

// A source that takes half a second for a MiB is read at 2 MiB/s, and the time that the rest takes is told.
func TestProgressTellsRateAndRemaining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := backuptest.New(&backuptest.Options{
			Files: fstest.MapFS{"a": {Data: noise(48 << 20)}},
			Hook: func(call backuptest.Call) error {
				if call.Op == backuptest.OpRead {
					time.Sleep(500 * time.Millisecond)
				}
				return nil
			},
		})
		r, err := repo.Init(t.Context(), repotest.Mem(nil), &repo.Options{Now: time.Now})
		require.NoError(t, err)
		begun := time.Now()
		var after []time.Duration
		var told []backup.Progress
		_, err = backup.Take(t.Context(), r, c, &backup.Options{Jobs: 1, Progress: func(p backup.Progress) {
			after, told = append(after, time.Since(begun)), append(told, p)
		}})
		require.NoError(t, err)
		require.Greater(t, len(told), 100)
		for i, p := range told {
			if p.Phase != "read" || after[i] < 1100*time.Millisecond {
				require.Zero(t, p.Rate)
				require.Zero(t, p.Remaining)
				continue
			}
			// In steps of a MiB, which at first are few.
			require.InDelta(t, 2<<20, p.Rate, max(0.11, 1/after[i].Seconds())*(2<<20))
			require.InDelta(t, float64(p.Total-p.ReadBytes)/float64(p.Rate), p.Remaining.Seconds(), 0.001)
		}
	})
}
