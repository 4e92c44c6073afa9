package wal_test

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// many is how many segments a large archive holds: at 16 MiB each, 1.6 TB of WAL.
const many = 100_000

// largeArchive is an archive whose objects are names only, on a directory.
func largeArchive(t testing.TB) *wal.Archive {
	t.Helper()
	dir := t.TempDir()
	store, err := repo.OpenDir(dir, nil)
	require.NoError(t, err)
	a := openArchive(t, store, nil)
	require.NoError(t, a.Claim(t.Context(), "me", cluster))
	last := ""
	for i := range uint64(many) {
		if i == many/2 {
			continue
		}
		path := filepath.Join(dir, wal.Key(cluster, parseName(t, segment(i).Name())))
		if d := filepath.Dir(path); d != last {
			require.NoError(t, os.MkdirAll(d, 0o700))
			last = d
		}
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	return a
}

// BenchmarkCoverage lists a large archive on a directory.
func BenchmarkCoverage(b *testing.B) {
	a := largeArchive(b)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		c, err := a.Coverage(b.Context())
		require.NoError(b, err)
		require.Len(b, c.Timelines[0].Gaps(), 1)
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/1e6, "MB/op")
}

// A large archive is covered by one listing, which on an object store is a request for each 1,000 objects.
func TestCoverageTakesOneListing(t *testing.T) {
	t.Parallel()
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	for i := range uint64(600) {
		s := segment(i + 1)
		require.NoError(t, push(t, a, s.Name(), content(s)))
	}
	var mu sync.Mutex
	calls := map[string]int{}
	observed := openArchive(t, repo.Observe(store, func(op repo.Op) {
		mu.Lock()
		defer mu.Unlock()
		calls[op.Name]++
	}), nil)
	clear(calls)
	c, err := observed.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, 600, c.Timelines[0].Segments)
	require.LessOrEqual(t, calls["list"], 2)
	require.LessOrEqual(t, calls["open"], 2) // the record of the cluster, and that there is no other
	require.Zero(t, calls["stat"])
}

// BenchmarkReplay looks for a restore point that is not there in the indexes of a large archive: the longest way a plan
// can take.
func BenchmarkReplay(b *testing.B) {
	store := repotest.Mem(nil)
	a := openArchive(b, store, nil)
	require.NoError(b, a.Claim(b.Context(), "me", cluster))
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := uint64(256); n < many; n += 256 {
		require.NoError(b, a.PutRollUp(b.Context(), cluster, segments(n, n+256), from.Add(time.Duration(n)*time.Minute)))
	}
	last := segment(many - many%256 + 255)
	require.NoError(b, push(b, a, last.Name(), content(last)))
	way := []wal.Range{{First: segment(256), Last: last}}
	c := wal.Coverage{System: cluster, Timelines: []wal.TimelineCoverage{{Timeline: 1, Ranges: way}}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		found, err := a.Matches(b.Context(), c, way, wal.Until{Name: "nothing"})
		require.NoError(b, err)
		require.Empty(b, found)
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/1e6, "MB/op")
	b.ReportMetric(float64(many)/b.Elapsed().Seconds()*float64(b.N), "segments/s")
}
