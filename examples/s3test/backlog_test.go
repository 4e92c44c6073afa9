package s3test_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// TestBacklog: clearing a backlog takes one request a segment, and as many at a time as there are jobs.
func TestBacklog(t *testing.T) {
	t.Parallel()
	const segments, jobs = 16, 8
	pgdata := t.TempDir()
	status := filepath.Join(pgdata, "pg_wal", "archive_status")
	require.NoError(t, os.MkdirAll(status, 0o700))
	for i := range segments {
		s := wal.Segment{Timeline: 1, Number: uint64(1 + i), Size: wal.MinSegmentSize}
		require.NoError(t, os.WriteFile(filepath.Join(pgdata, "pg_wal", s.Name()), waltest.Segment(s, 7, 18), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(status, s.Name()+".ready"), nil, 0o600))
	}
	proxy := s3test.NewProxy(t, s3test.Start(t).Endpoint)
	s := openStore(t, proxy.Endpoint, nil)
	_, recipient := newCipher(t)
	_, err := repo.Init(t.Context(), s, &repo.Options{Cipher: recipient})
	require.NoError(t, err)
	isSegment := func(r s3test.Request) bool { return r.Op == "PUT" && strings.HasPrefix(r.Key, "wal/") }
	proxy.Gather(jobs, isSegment) // jobs that did not overlap would wait for ever
	proxy.Requests()

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := repo.Open(ctx, s, &repo.Options{Cipher: recipient, StateDir: t.TempDir()})
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	pushed, err := a.PushReady(ctx, pgdata, &wal.ReadyOptions{Jobs: jobs})
	require.NoError(t, err)
	require.Len(t, pushed.Files, segments)
	require.Len(t, keys(t, s, "wal/"), segments)
	puts, others := 0, 0
	for _, r := range proxy.Requests() {
		if isSegment(r) {
			puts++
		} else {
			others++
		}
	}
	require.Equal(t, segments, puts)
	require.Less(t, others, 10, "to open the repository, to claim it, and for a data key")
}
