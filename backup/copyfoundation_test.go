package backup_test

import (
	"context"
	"path"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

// creating calls f before an object is begun.
type creating struct {
	repo.Store

	f func(key string)
}

func (s creating) Create(ctx context.Context, key string) (repo.Writer, error) {
	s.f(key)
	return s.Store.Create(ctx, key)
}

// A copy that was suspended for so long that somebody has deleted what it builds on leaves no backup that cannot be
// restored.
func TestCopyFoundation(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)
	first, last := w.backups[0], w.backups[1]
	m, err := backup.Load(t.Context(), w.repo, last)
	require.NoError(t, err)
	for name, doomed := range map[string]func(key string) bool{
		"packs":     func(key string) bool { return strings.HasPrefix(key, "packs/"+string(first)) },
		"a segment": func(key string) bool { return path.Base(key) == m.LastSegment().Name() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := repotest.Mem(nil)
			_, err := backup.Copy(t.Context(), w.repo, newRepo(t, there, nil), &backup.CopyOptions{Backups: []backup.ID{first}})
			require.NoError(t, err)
			deleted := 0
			to, err := repo.Open(t.Context(), creating{there, func(key string) {
				if key != "backups/"+string(last) {
					return
				}
				require.NoError(t, there.Delete(t.Context(), "backups/"+string(first)))
				for _, key := range keys(t, there, "") {
					if doomed(key) {
						deleted++
						require.NoError(t, there.Delete(t.Context(), key))
					}
				}
			}}, &repo.Options{Now: clock()})
			require.NoError(t, err)
			_, err = backup.Copy(t.Context(), w.repo, to, nil)
			require.Positive(t, deleted)
			requireNoAnswer(t, err)
			require.ErrorContains(t, err, "deleted meanwhile")
			require.Empty(t, requireSound(t, to))

			to, err = repo.Open(t.Context(), there, &repo.Options{Now: clock()})
			require.NoError(t, err)
			_, err = backup.Copy(t.Context(), w.repo, to, nil)
			require.NoError(t, err)
			requireCopied(t, w.repo, to)
		})
	}
}
