package wal_test

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
	"github.com/stretchr/testify/require"
)

// An archive whose record of the cluster is lost neither says that a segment does not exist, nor goes to another cluster.
func TestLostSystem(t *testing.T) {
	store := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	seg := wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize}
	push := func(a *wal.Archive, systemID uint64) error {
		n, err := wal.ParseName(seg.Name())
		require.NoError(t, err)
		content := waltest.Segment(seg, systemID, 15)
		return a.PushContent(t.Context(), n, bytes.NewReader(content), int64(len(content)))
	}
	require.NoError(t, push(a, 7))
	require.NoError(t, store.Delete(t.Context(), "systems/1"))

	a, err = wal.NewArchive(r, nil)
	require.NoError(t, err)
	var corrupt *repo.CorruptError
	err = a.Fetch(t.Context(), seg.Next().Name(), filepath.Join(t.TempDir(), "segment"))
	require.ErrorAs(t, err, &corrupt)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, "systems/1", corrupt.Key)
	require.ErrorAs(t, push(a, 8), &corrupt)
	_, err = a.Coverage(t.Context())
	require.ErrorAs(t, err, &corrupt)
}
