package backup_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// meanwhile is a store in which something happens when the first of the WAL is read.
type meanwhile struct {
	repo.Store

	once sync.Once
	do   func()
}

func (m *meanwhile) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if strings.HasPrefix(key, "wal/") && !strings.HasSuffix(key, ".history") {
		m.once.Do(m.do)
	}
	return m.Store.Open(ctx, key, offset, length)
}

// A backup that retention drops while the WAL is read is not lost, nor is WAL missing that goes with it.
func TestVerifyBesideRetention(t *testing.T) {
	t.Parallel()
	r, store, c, _ := promoted(t, 1)
	first, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	second, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	live(t, r, c)
	s := &meanwhile{Store: store, do: func() {
		require.NoError(t, store.Delete(t.Context(), "backups/"+string(first[0].ID)))
		for s := first[0].FirstSegment(); s.Number < second.FirstSegment().Number; s = s.Next() {
			require.NoError(t, store.Delete(t.Context(), segmentKey(c, s)))
		}
	}}
	beside, err := repo.Open(t.Context(), s, &repo.Options{Now: c.Now})
	require.NoError(t, err)
	report := verify(t, beside, all)
	require.True(t, report.OK(), report)
	require.NotContains(t, keys(t, store, "wal/"), segmentKey(c, first[0].FirstSegment()), "it happened")

	// Without the backup being dropped it is a loss.
	require.NoError(t, store.Delete(t.Context(), segmentKey(c, wal.SegmentAt(1, second.StopLSN-1, wal.MinSegmentSize))))
	require.Equal(t, []backup.ID{second.ID}, verify(t, r, all).Lost.Backups)
}
