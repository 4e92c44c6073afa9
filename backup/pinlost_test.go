package backup_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// A store that repeats a request whose answer was lost finds the pin there. That is no failure, unless it says another
// thing or nobody can read what it says.
func TestPinAfterALostAnswer(t *testing.T) {
	mem := repotest.Mem(nil)
	r := newRepo(t, mem, nil)
	m, err := backup.Take(t.Context(), r, backuptest.New(nil), nil)
	require.NoError(t, err)
	lost := repotest.Fault{Op: repotest.OpCommit, Key: "pins/*/*", Do: repotest.FailAfter(fs.ErrExist)}
	open := func(faults ...repotest.Fault) *repo.Repo {
		r, err := repo.Open(t.Context(), repotest.Faulty(mem, faults...), &repo.Options{Now: clock()})
		require.NoError(t, err)
		return r
	}
	pinned := func() bool {
		all, err := backup.Pinned(t.Context(), r)
		require.NoError(t, err)
		return all[m.ID]
	}
	require.NoError(t, backup.Pin(t.Context(), open(lost), m.ID))
	require.True(t, pinned())
	require.NoError(t, backup.Unpin(t.Context(), open(lost), m.ID))
	require.False(t, pinned())

	err = backup.Pin(t.Context(), open(lost, repotest.Fault{Op: repotest.OpOpen, Key: "pins/*/00000003"}), m.ID)
	require.ErrorIs(t, err, repotest.ErrInjected)
	require.NoError(t, backup.Unpin(t.Context(), r, m.ID))

	// Somebody else says the reverse just before.
	beside, err := repo.Open(t.Context(), repo.Observe(mem, func(op repo.Op) {
		if op.Name == "list" && strings.HasPrefix(op.Key, "pins/") {
			require.NoError(t, r.CreateRecord(t.Context(), "pins/"+string(m.ID)+"/00000005", map[string]any{"pinned": false}))
		}
	}), &repo.Options{Now: clock()})
	require.NoError(t, err)
	require.ErrorIs(t, backup.Pin(t.Context(), beside, m.ID), fs.ErrExist)
	require.False(t, pinned())
}
