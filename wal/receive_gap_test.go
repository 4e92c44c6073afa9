package wal_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// TestReceiveAfterRemoval: without a slot the server removes what the archive lacks. That is no gap to pass over in
// silence.
func TestReceiveAfterRemoval(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
		"autovacuum": "off", "min_wal_size": "2MB", "max_wal_size": "2MB", "wal_recycle": "off",
	}})
	a := openArchive(t, repotest.Mem(nil), nil)
	o := wal.ReceiveOptions{FlushEvery: 10 * time.Millisecond}
	r := receive(t, a, c.DSN("postgres"), o)
	r.await(t, 1) // it has begun
	c.Exec(t, "CREATE TABLE t (i int, text text)", "SELECT pg_switch_wal()", "INSERT INTO t VALUES (1)")
	r.await(t, flushed(t, c))
	r.stop(t)
	before, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, before.Timeline(1).Ranges)
	next := before.Timeline(1).Partial.Segment
	for range 4 {
		c.Exec(t, "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 40000) i", "SELECT pg_switch_wal()", "CHECKPOINT")
	}
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(c.Data, "pg_wal", next.Name()))
		return errors.Is(err, fs.ErrNotExist)
	}, patience, 10*time.Millisecond)

	var removed *wal.RemovedError
	require.ErrorAs(t, a.Receive(t.Context(), c.DSN("postgres"), &o), &removed)
	require.Equal(t, next, removed.Segment)
	require.ErrorContains(t, removed, "already been removed")

	o.AllowGap = true
	r = receive(t, a, c.DSN("postgres"), o)
	c.Exec(t, "INSERT INTO t VALUES (2)")
	r.await(t, flushed(t, c))
	r.stop(t)
	after, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Timeline(1).Ranges, after.Timeline(1).Ranges)
	require.Greater(t, after.Timeline(1).Partial.Segment.Number, next.Number, "what came after the gap is held, and the gap is not hidden")
	require.ErrorIs(t, a.Read(t.Context(), next.Next().Name(), io.Discard), fs.ErrNotExist)
}
