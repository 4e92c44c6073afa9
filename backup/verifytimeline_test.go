package backup_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// promoted is a repository with a backup, and WAL of as many timelines as asked for, each of three segments and the next's
// beginning.
func promoted(t *testing.T, timelines int) (r *repo.Repo, store repo.Store, c *backuptest.Cluster, forks []wal.Segment) {
	t.Helper()
	store, c = repotest.Mem(nil), backuptest.New(&backuptest.Options{Logged: true})
	r, err := repo.Init(t.Context(), store, &repo.Options{Now: c.Now})
	require.NoError(t, err)
	_, err = backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	for i := range timelines {
		if i > 0 {
			forks = append(forks, wal.SegmentAt(c.Timeline(), c.LSN(), wal.MinSegmentSize))
			c.Promote()
		}
		live(t, r, c)
	}
	return r, store, c, forks
}

func live(t *testing.T, r *repo.Repo, c *backuptest.Cluster) {
	t.Helper()
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for range 3 {
		c.Commit()
		c.Switch(1)
	}
	c.Commit()
	require.NoError(t, c.Archive(t.Context(), a))
}

func segmentKey(c *backuptest.Cluster, s wal.Segment) string {
	name := s.Name()
	return fmt.Sprintf("wal/%d/%s/%s/%s", c.System().ID, name[:8], name[8:22], name)
}

// Segments that are missing before a timeline was left, after the next began, or all of one between, are missed: no segment
// that is held on the same timeline comes before, or behind.
func TestVerifyFindsWALThatIsMissingAroundAPromotion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		gone func(forks []wal.Segment) []wal.Segment
	}{
		{"the last before", func(f []wal.Segment) []wal.Segment { return []wal.Segment{f[0].Prev()} }},
		{"the first behind", func(f []wal.Segment) []wal.Segment { return []wal.Segment{f[0].On(2)} }},
		{"the last before the next", func(f []wal.Segment) []wal.Segment { return []wal.Segment{f[1].Prev()} }},
		{"all of one between", func(f []wal.Segment) (all []wal.Segment) {
			for s := f[0].On(2); s.Number < f[1].Number; s = s.Next() {
				all = append(all, s)
			}
			return all
		}},
	} {
		for _, later := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				r, store, c, forks := promoted(t, 3)
				var m *backup.Manifest
				if later {
					var err error
					m, err = backup.Take(t.Context(), r, c, nil)
					require.NoError(t, err)
					live(t, r, c)
				}
				require.True(t, verify(t, r, all).OK())
				gone := tt.gone(forks)
				for _, s := range gone {
					require.NoError(t, store.Delete(t.Context(), segmentKey(c, s)))
				}
				_, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
				require.Equal(t, later, err == nil, "%v", err)
				report := verify(t, r, all)
				require.Len(t, report.Problems, 1, report)
				require.Contains(t, report.Problems[0].Key, gone[0].Name())
				require.Empty(t, report.Lost.Backups)
				require.NotEmpty(t, report.Lost.Spans)
				if !later {
					return
				}
				last := report.Lost.Spans[len(report.Lost.Spans)-1]
				require.Equal(t, m.StopLSN, last.ToLSN, "from there on, the later backup leads on")
				report = verify(t, r, &backup.VerifyOptions{KeepWAL: time.Nanosecond})
				require.True(t, report.OK(), report)
				require.Len(t, report.Gaps, 1)
				require.Equal(t, wal.Range{First: gone[0], Last: gone[len(gone)-1]}, report.Gaps[0])
			})
		}
	}
}
