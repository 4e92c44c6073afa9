package wal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// TestReceiveAfterUpgrade: a receiver is of one cluster, which consent alone lets in, on whatever timeline it is.
func TestReceiveAfterUpgrade(t *testing.T) {
	t.Parallel()
	store := repotest.Mem(nil)
	require.NoError(t, openArchive(t, store, nil).Claim(t.Context(), "it", cluster))
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: keepAll(18)})
	promote(t, c)
	var foreign *wal.ForeignError
	require.ErrorAs(t, openArchive(t, store, nil).Receive(t.Context(), c.DSN("postgres"), nil), &foreign)
	require.Equal(t, wal.ForeignError{Name: "the server", Got: foreign.Got, Want: systemID}, *foreign)

	a := openArchive(t, store, nil)
	_, err := a.Upgrade(t.Context(), "it", wal.System{ID: foreign.Got, SegmentSize: wal.MinSegmentSize}, systemID)
	require.NoError(t, err)
	r := receive(t, a, c.DSN("postgres"), wal.ReceiveOptions{FlushEvery: 20 * time.Millisecond})
	c.Exec(t, "CREATE TABLE t AS SELECT i FROM generate_series(1, 100000) i", "SELECT pg_switch_wal()", "INSERT INTO t VALUES (0)")
	r.await(t, flushed(t, c))
	held, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.NotNil(t, held.Timeline(2))
	require.NotNil(t, held.Timeline(2).History)
	require.Greater(t, held.Timeline(2).Segments, 3)

	// It goes on to another, and this one is let in no more.
	r.stop(t)
	_, err = openArchive(t, store, nil).Upgrade(t.Context(), "it", wal.System{ID: 2, SegmentSize: wal.MinSegmentSize}, foreign.Got)
	require.NoError(t, err)
	require.ErrorAs(t, openArchive(t, store, nil).Receive(t.Context(), c.DSN("postgres"), nil), &foreign)
	require.True(t, foreign.Earlier)
}
