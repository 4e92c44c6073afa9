package backup_test

import (
	"testing"
	"testing/fstest"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/stretchr/testify/require"
)

// Files are compressed as asked, and come back as they were; one repository holds backups of every compression.
func TestTakeCompresses(t *testing.T) {
	t.Parallel()
	c := backuptest.New(&backuptest.Options{Files: fstest.MapFS{
		"text":  {Data: repeat("a cairn marks the way back, stone by stone, ", 3<<20)},
		"noise": {Data: noise(2 << 20)},
	}})
	all, _ := newCipher(t)
	r := newRepo(t, nil, all)
	stored := map[repo.Compression]int64{}
	for _, compression := range []repo.Compression{"", repo.ZstdFastest, repo.Zstd, repo.ZstdBetter, repo.S2, repo.Uncompressed} {
		m, err := backup.Take(t.Context(), r, c, &backup.Options{Compression: compression})
		require.NoError(t, err)
		stored[compression] = m.StoredBytes
		for _, p := range m.PackList {
			for _, f := range p.Frames {
				require.Equal(t, compression == repo.S2, f.Codec == repo.CodecS2)
			}
		}
		require.NoError(t, c.Compare(run(t, r, nil)))
	}
	requireSound(t, r)
	for compression, bytes := range stored {
		require.Greater(t, bytes, int64(2<<20), "noise does not shrink")
		if compression == repo.Uncompressed {
			require.Greater(t, bytes, int64(5<<20))
		} else {
			require.Less(t, bytes, int64(2<<20+1<<19), "%s", compression)
		}
	}

	_, err := backup.Take(t.Context(), r, neverBegun{t}, &backup.Options{Compression: "lz4"})
	require.ErrorContains(t, err, `backup: unknown compression "lz4"`)
}
