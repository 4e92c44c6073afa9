package restore_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// Where restores that were cut short had put a tablespace and the WAL is known to those after them, also when they put
// them elsewhere: they can go back, and what is left over in the end is told.
func TestPlacesOfRestoresThatWereCutShort(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	base := t.TempDir()
	dir := filepath.Join(base, "data")
	run := func(fast, wal string, cut bool) (*restore.Result, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		return f.plan(t).Run(ctx, f.repo, dir, &restore.Options{
			Tablespaces: map[string]string{"fast": filepath.Join(base, fast)}, WALDirectory: filepath.Join(base, wal),
			Progress: func(p restore.Progress) {
				if cut && p.Phase == "sync" {
					cancel()
				}
			},
		})
	}
	for _, places := range [][2]string{{"fast1", "wal1"}, {"fast2", "wal2"}, {"fast3", "wal1"}, {"fast1", "wal3"}} {
		_, err := run(places[0], places[1], true)
		require.ErrorIs(t, err, context.Canceled)
	}
	foreign := filepath.Join(base, "foreign")
	write(t, filepath.Join(foreign, "precious"), "x")
	_, err := run("foreign", "wal1", false)
	require.True(t, is[*restore.NotEmptyError](err), "%v", err)

	result, err := run("fast2", "wal3", false)
	require.NoError(t, err)
	require.NoError(t, f.c.Compare(dir))
	require.Len(t, result.Warnings, 4)
	for _, left := range []string{"fast3", "fast1", "wal1", "wal2"} {
		require.Contains(t, result.Warnings, "remove what a restore that was cut short has left in "+filepath.Join(base, left)+", where it put "+
			map[byte]string{'f': "pg_tblspc/16385", 'w': "pg_wal"}[left[0]])
		entries, err := os.ReadDir(filepath.Join(base, left))
		require.NoError(t, err)
		require.NotEmpty(t, entries)
	}
}
