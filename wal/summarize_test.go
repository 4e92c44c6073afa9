package wal_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// What is archived is summarized by its indexes, also by the host that pushed it and cannot read, and what is not yet
// archived by its content.
func TestSummarizeAnArchive(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Major: pgtest.Newest(), SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
		"wal_keep_size": "1GB", "autovacuum": "off", "wal_init_zero": "off",
	}})
	c.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, a text)",
		"INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 60000) i", "DELETE FROM t WHERE id > 50000", "VACUUM t",
		"SELECT pg_switch_wal()")
	content := liveWAL(t, c)
	n := len(content) >> 20
	h, err := wal.ReadHeader(bytes.NewReader(content))
	require.NoError(t, err)
	first := uint64(h.Start) >> 20
	for _, kind := range kinds {
		a := pushing(t, repotest.Mem(nil), kind, t.TempDir())
		for i := range n - 2 {
			require.NoError(t, push(t, a, segment(first+uint64(i)).Name(), content[i<<20:(i+1)<<20]))
		}
		asked := 0
		got, err := a.Summarize(t.Context(), segment(first), segment(first+uint64(n)-1), func(s wal.Segment) (io.ReadCloser, error) {
			asked++
			i := int(s.Number - first)
			return io.NopCloser(bytes.NewReader(content[i<<20 : (i+1)<<20])), nil
		})
		require.NoError(t, err)
		require.Equal(t, 2, asked)
		want, err := wal.Replay(content, got.From, got.To)
		require.NoError(t, err)
		requireSameSummary(t, want, got)

		lost := errors.New("lost")
		_, err = a.Summarize(t.Context(), segment(first), segment(first+uint64(n)-1), func(wal.Segment) (io.ReadCloser, error) { return nil, lost })
		require.ErrorIs(t, err, lost)
	}
	_, err = openArchive(t, repotest.Mem(nil), nil).Summarize(t.Context(), segment(1), segment(2), nil)
	requireNoAnswer(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}
