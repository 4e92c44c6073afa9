package restore_test

import (
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// TestUndoneBehindAGap: what recovery leaves out is told also where the WAL on the way there is missing.
func TestUndoneBehindAGap(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Logged: true})
	f.c.Commit()
	f.c.RestorePoint("before the gap")
	f.c.Switch(1)
	f.c.Commit()
	f.c.Switch(1)
	f.c.Commit()
	f.c.Commit()
	f.c.Remove("base/5/16384")
	f.c.Switch(1)
	require.NoError(t, f.archive(t))
	all := f.coverage(t).Timelines[0].Ranges
	last := all[len(all)-1].Last
	for _, key := range keys(t, f.store, "wal/") {
		if strings.HasSuffix(key, last.Prev().Name()) {
			require.NoError(t, f.store.Delete(t.Context(), key))
		}
	}
	p, err := restore.Prepare(t.Context(), f.repo, restore.AtName("before the gap"), &restore.PlanOptions{Undone: true})
	require.NoError(t, err)
	require.Nil(t, p.NextCommit, "it is missing")
	require.Equal(t, 3, p.Undone.Commits.Count)
	require.Len(t, p.Undone.Events, 1)
	require.NotContains(t, p.String(), "nothing that is archived")
}
