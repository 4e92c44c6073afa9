package backup_test

import (
	"context"
	"path"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

// A segment that is deleted while it is to be copied is told of where there is WAL before it and later WAL is copied.
func TestCopyHoles(t *testing.T) {
	t.Parallel()
	mem, there := repotest.Mem(nil), repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	_, err := backup.Copy(t.Context(), w.repo, newRepo(t, there, nil), nil)
	require.NoError(t, err)
	old := keys(t, there, "wal/")
	w.goOn(t)
	m := w.take(t, backup.Full)
	all := keys(t, mem, "wal/")
	gap := all[len(old)]
	require.Less(t, path.Base(gap), m.FirstSegment().Name())
	from, err := repo.Open(t.Context(), hooked{mem, func(key string) {
		if key == gap {
			require.NoError(t, mem.Delete(context.Background(), gap))
		}
	}}, &repo.Options{Now: clock()})
	require.NoError(t, err)
	to, err := repo.Open(t.Context(), there, &repo.Options{Now: clock()})
	require.NoError(t, err)
	result, err := backup.Copy(t.Context(), from, to, nil)
	var damaged *backup.CopyError
	require.ErrorAs(t, err, &damaged)
	require.Len(t, result.Problems, 1)
	require.Equal(t, gap, result.Problems[0].Key)
	require.Contains(t, result.Problems[0].Text, path.Base(gap))
	require.Equal(t, []backup.ID{m.ID}, result.Backups, "which is behind it")
	require.Len(t, keys(t, there, "wal/"), len(all)-1)
	requireSound(t, to)
}
