package drill_test

import (
	"io/fs"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/stretchr/testify/require"
)

// TestReceipt drills with and without a receipt, which says how that ended and nothing of what the database holds.
func TestReceipt(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, false)
	_, err := s.run(t, restore.Latest(), s.options(t))
	require.NoError(t, err)
	_, err = backup.LastReceipt(t.Context(), s.r, backup.ReceiptDrill)
	require.ErrorIs(t, err, fs.ErrNotExist, "none was asked for")

	o := s.options(t)
	o.Receipt = true
	o.Programs = []string{"no_such_program"}
	_, err = s.run(t, restore.Latest(), o)
	require.Error(t, err)
	_, err = backup.LastReceipt(t.Context(), s.r, backup.ReceiptDrill)
	require.ErrorIs(t, err, fs.ErrNotExist, "it says nothing of the repository")

	o.Programs = nil
	_, err = s.run(t, restore.Latest(), o)
	require.NoError(t, err)
	last, err := backup.LastReceipt(t.Context(), s.r, backup.ReceiptDrill)
	require.NoError(t, err)
	require.True(t, last.OK)
	require.Equal(t, []backup.ID{s.m.ID}, last.Backups)
	require.Positive(t, last.Bytes)
	require.False(t, last.EndedAt.Before(last.BeganAt))

	_, err = s.run(t, restore.AtName("nowhere"), o)
	require.Error(t, err)
	last, err = backup.LastReceipt(t.Context(), s.r, backup.ReceiptDrill)
	require.NoError(t, err)
	require.False(t, last.OK)
	require.Equal(t, "it failed in phase plan", last.Problem)

	o.Checks = []drill.Check{{SQL: `select false`}}
	_, err = s.run(t, restore.Latest(), o)
	require.Error(t, err)
	last, err = backup.LastReceipt(t.Context(), s.r, backup.ReceiptDrill)
	require.NoError(t, err)
	require.Equal(t, "it failed in phase check", last.Problem)

	// A repository that takes no receipt is drilled all the same.
	o.Checks = nil
	s.r, err = repo.Open(t.Context(), repotest.Faulty(s.r.Store(), repotest.Fault{Op: repotest.OpCreate}), nil)
	require.NoError(t, err)
	_, err = s.run(t, restore.Latest(), o)
	require.NoError(t, err)
}
