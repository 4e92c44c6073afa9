package backup_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// All jobs together read as fast as they may, and no faster.
func TestRate(t *testing.T) {
	c := backuptest.New(nil)
	c.Write("base/5/30000", backuptest.Pages(0, 1000, 1<<16, "large"))
	c.Write("base/5/30001", backuptest.Pages(0, 500, 1<<16, "large"))
	synctest.Test(t, func(t *testing.T) {
		r, err := repo.Init(t.Context(), repotest.Mem(nil), nil)
		require.NoError(t, err)
		const rate = 2 << 20
		for _, o := range []backup.Options{{Jobs: 3}, {Type: backup.Incremental, Method: backup.ByCompare, Jobs: 2}} {
			o.Rate = rate
			begun := time.Now()
			m, err := backup.Take(t.Context(), r, c, &o)
			require.NoError(t, err)
			least := time.Duration(float64(m.ReadBytes) / rate * float64(time.Second))
			took := time.Since(begun)
			require.Greater(t, took, least-100*time.Millisecond)
			// What is asked for may be more than there is to read: behind every file that is no relation's.
			require.Less(t, took, 5*least)
			time.Sleep(time.Minute) // for the next ID
		}
	})
}
