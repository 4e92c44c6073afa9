package backup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
)

// A pin that is damaged keeps what it pins, and nobody from recovering.
func TestDamagedPin(t *testing.T) {
	t.Parallel()
	store := repotest.Mem(nil)
	r := newRepo(t, store, nil)
	m, err := backup.Take(t.Context(), r, backuptest.New(nil), nil)
	require.NoError(t, err)
	require.NoError(t, backup.Pin(t.Context(), r, m.ID))
	for range 2 { // again: no change
		require.NoError(t, backup.Pin(t.Context(), r, m.ID))
	}
	require.Len(t, keys(t, store, "pins/"), 1)
	require.NoError(t, backup.Unpin(t.Context(), r, m.ID))
	require.NoError(t, backup.Pin(t.Context(), r, m.ID))
	all := keys(t, store, "pins/")
	require.Len(t, all, 1)
	b := storedBytes(t, store, all[0])
	b[12] ^= 1
	replace(t, store, all[0], b)

	listed, err := backup.List(t.Context(), r)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, all[0], corrupt.Key)
	require.Len(t, listed, 1)
	require.True(t, listed[0].Pinned)
	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), nil)
	require.NoError(t, err)
	require.Equal(t, m.ID, p.Backup.ID)
}
