package restore_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
)

// BenchmarkFSReadAt reads pages at random, from frames that are kept and from ones that are not.
func BenchmarkFSReadAt(b *testing.B) {
	const size = 64 * mib
	for _, encrypted := range []bool{false, true} {
		o := &repo.Options{}
		if encrypted {
			o.Cipher, _ = newCipher(b)
		}
		r, err := repo.Init(b.Context(), repotest.Mem(nil), o)
		require.NoError(b, err)
		content := backuptest.Pages(0, size/8192, 1, "a row of a table")
		m, err := backup.Take(b.Context(), r, backuptest.New(&backuptest.Options{Files: one("base/5/20000", content)}), nil)
		require.NoError(b, err)
		for _, cache := range []int64{size + mib, size / 16} {
			b.Run(fmt.Sprintf("encrypted=%t/cached=%d%%", encrypted, 100*min(cache, size)/size), func(b *testing.B) {
				f := openFile(b, openFS(b, r, m.ID, &restore.FSOptions{CacheBytes: cache}), "base/5/20000")
				random, page := rand.New(rand.NewPCG(1, 1)), make([]byte, 8192)
				b.SetBytes(8192)
				b.ReportAllocs()
				for b.Loop() {
					_, err := f.ReadAt(page, random.Int64N(size/8192)*8192)
					require.NoError(b, err)
				}
			})
		}
	}
}
