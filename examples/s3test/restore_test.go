package s3test_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// backedUp is a repository on S3 with a backup of so many MiB that do not compress, and of the WAL that it needs.
func backedUp(t testing.TB, endpoint string, mib int) (*repo.Repo, *backup.Manifest) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{})
	files := fstest.MapFS{"PG_VERSION": {Data: []byte("18\n")}}
	for i := range mib / 8 {
		content := make([]byte, 8<<20)
		_, _ = rng.Read(content)
		files[fmt.Sprintf("base/5/%d", 16384+i)] = &fstest.MapFile{Data: content}
	}
	c := backuptest.New(&backuptest.Options{Files: files, NoChecksums: true})
	r, err := repo.Init(t.Context(), openStore(t, endpoint, &bucket.Options{Prefix: t.Name()}), nil)
	require.NoError(t, err)
	m, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	c.Switch(1)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	require.NoError(t, c.Archive(t.Context(), a))
	return r, m
}

// restoreAnew plans and restores.
func restoreAnew(t testing.TB, r *repo.Repo, jobs int) {
	t.Helper()
	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), nil)
	require.NoError(t, err)
	_, err = p.Run(t.Context(), r, filepath.Join(t.TempDir(), "data"), &restore.Options{Jobs: jobs})
	require.NoError(t, err)
}

// TestRestoreTakesARequestAPack: all that is needed of a pack is read by one request.
func TestRestoreTakesARequestAPack(t *testing.T) {
	t.Parallel()
	proxy := s3test.NewProxy(t, s3test.Start(t).Endpoint)
	r, m := backedUp(t, proxy.Endpoint, 64)
	require.GreaterOrEqual(t, len(m.PackList), 4)
	proxy.Requests()
	restoreAnew(t, r, 2)
	gets := 0
	for _, request := range proxy.Requests() {
		if strings.Contains(request.Key, "packs/") {
			require.Equal(t, "GET", request.Op)
			gets++
		}
	}
	require.Len(t, m.PackList, gets)
}

// BenchmarkRestore restores from S3, where each request takes 20 ms longer than it does on this machine.
func BenchmarkRestore(b *testing.B) {
	proxy := s3test.NewProxy(b, s3test.Start(b).Endpoint)
	r, m := backedUp(b, proxy.Endpoint, 256)
	for _, jobs := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("jobs=%d", jobs), func(b *testing.B) {
			b.SetBytes(m.ClusterBytes)
			proxy.Requests()
			proxy.Delay(20 * time.Millisecond)
			defer proxy.Delay(0)
			n := 0
			for b.Loop() {
				restoreAnew(b, r, jobs)
				n++
			}
			b.ReportMetric(float64(len(proxy.Requests()))/float64(n*len(m.PackList)), "requests/pack")
		})
	}
}
