package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

func TestArchivedAt(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	s := repotest.Mem(&repotest.MemOptions{Now: func() time.Time { return now }})
	a := openArchive(t, s, nil)
	_, err := a.ArchivedAt(t.Context(), segment(1))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	first := now
	now = now.Add(time.Hour)
	require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), 0, 70_000, noisy(segment(2))))
	now = now.Add(time.Hour)
	require.NoError(t, wal.PutPiece(t.Context(), a, segment(2), 70_000, 80_000, noisy(segment(2))))
	for n, want := range map[uint64]time.Time{1: first, 2: now} {
		got, err := a.ArchivedAt(t.Context(), segment(n))
		require.NoError(t, err)
		require.True(t, want.Equal(got), "%s", got)
	}
	_, err = a.ArchivedAt(t.Context(), segment(3))
	require.ErrorIs(t, err, fs.ErrNotExist)

	// An outage is no answer.
	for n := 1; ; n++ {
		faulty := repotest.Faulty(s, repotest.Fault{Nth: n})
		down, err := reopenArchive(t, faulty, nil)
		if err == nil {
			_, err = down.ArchivedAt(t.Context(), segment(2))
		}
		if faulty.Struck() == 0 {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, repotest.ErrInjected)
		require.NotErrorIs(t, err, fs.ErrNotExist)
	}
}

func ExampleArchive_ArchivedAt() {
	ctx := context.Background()
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		panic(err)
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		panic(err)
	}
	_, err = a.ArchivedAt(ctx, wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize})
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}
