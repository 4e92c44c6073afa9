package backup_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/stretchr/testify/require"
)

// Retention at the source makes no hole in what is being copied; once the copy is done it goes on.
func TestCopyBesideRetention(t *testing.T) {
	t.Parallel()
	mem, there := repotest.Mem(nil), repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	_, err := backup.Copy(t.Context(), w.repo, newRepo(t, there, nil), nil)
	require.NoError(t, err)
	w.goOn(t)
	w.take(t, backup.Full)
	all := keys(t, mem, "wal/")
	var dropped [][]backup.ID
	expire := func() {
		plan, err := retention.NewPlan(t.Context(), w.repo, retention.Policy{KeepLast: 1}, nil)
		if err != nil { // not require: it is called by Copy's goroutines
			t.Error(err)
			return
		}
		result, err := plan.Apply(t.Context(), w.repo)
		if err != nil {
			t.Error(err)
			return
		}
		dropped = append(dropped, result.Dropped)
	}
	first := all[len(keys(t, there, "wal/"))]
	done := false
	from, err := repo.Open(t.Context(), hooked{mem, func(key string) {
		if key == first && !done {
			done = true
			expire()
		}
	}}, &repo.Options{Now: clock()})
	require.NoError(t, err)
	to, err := repo.Open(t.Context(), there, &repo.Options{Now: clock()})
	require.NoError(t, err)
	_, err = backup.Copy(t.Context(), from, to, nil)
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, all, keys(t, there, "wal/"))
	requireReachable(t, to)
	expire()
	require.Equal(t, [][]backup.ID{w.backups[1:2], w.backups[:1]}, dropped)
}
