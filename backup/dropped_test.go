package backup_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

// mark is what repo/FORMAT.md says of dropped/<backup id>.
type mark struct {
	Packs []markedPacks `json:"packs"`
}

type markedPacks struct {
	Backup backup.ID `json:"backup"`
	First  int       `json:"first"`
	Last   int       `json:"last"`
}

func TestGoldenMark(t *testing.T) {
	goldenRecord(t, "dropped/20261121T101530Z-9f3c2a", mark{[]markedPacks{
		{"20261121T091530Z-000001", 1, 3}, {"20261121T101530Z-9f3c2a", 1, 12},
	}})
}

// What is being dropped is not for others to build on: a backup takes over what killed ones have left, and not that. And a
// backup that is copied again is not being dropped any more.
func TestMarkedIsNotTakenOver(t *testing.T) {
	for name, marked := range map[string]bool{"left by a killed backup": false, "being dropped": true} {
		t.Run(name, func(t *testing.T) {
			store := repotest.Mem(nil)
			r := newRepo(t, store, nil)
			c := backuptest.New(nil)
			c.Write("base/1/20001", backuptest.Pages(0, 300, 1<<24, "text"))
			first, err := backup.Take(t.Context(), r, c, nil)
			require.NoError(t, err)
			if marked {
				require.NoError(t, backup.NewNeeds(r).Mark(t.Context(), first.ID))
			}
			require.NoError(t, store.Delete(t.Context(), "backups/"+string(first.ID)))
			second, err := backup.Take(t.Context(), r, c, nil)
			require.NoError(t, err)
			require.Equal(t, marked, second.ReusedBytes == 0)
		})
	}
	c := backuptest.New(nil)
	from, store := newRepo(t, nil, nil), repotest.Mem(nil)
	to := newRepo(t, store, nil)
	m, err := backup.Take(t.Context(), from, c, nil)
	require.NoError(t, err)
	_, err = backup.Copy(t.Context(), from, to, nil)
	require.NoError(t, err)
	require.NoError(t, backup.NewNeeds(to).Mark(t.Context(), m.ID))
	require.NoError(t, store.Delete(t.Context(), "backups/"+string(m.ID)))
	_, err = backup.Copy(t.Context(), from, to, nil)
	require.NoError(t, err)
	require.Empty(t, keys(t, store, "dropped/"))
	requireSound(t, to)
}

// What a dropped backup has left is told from what others have, by its mark, until the mark is damaged; and that it is marked
// means nothing while it is there.
func TestMarks(t *testing.T) {
	store := repotest.Mem(nil)
	r := newRepo(t, store, nil)
	c := backuptest.New(nil)
	full, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	c.Write("base/1/20001", backuptest.Pages(0, 30, 1<<24, "text"))
	incr, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Incremental})
	require.NoError(t, err)

	needs := backup.NewNeeds(r)
	for range 2 { // the second was said already
		require.NoError(t, needs.Mark(t.Context(), incr.ID))
	}
	var record mark
	require.NoError(t, r.ReadRecord(t.Context(), backup.DroppedKey(incr.ID), &record))
	require.Equal(t, []markedPacks{{full.ID, 1, full.Packs}, {incr.ID, 1, incr.Packs - full.Packs}}, record.Packs)

	orphans := func() (all []backup.ID, dropped int) {
		for o, err := range backup.NewNeeds(r).Orphans(t.Context(), map[backup.ID]bool{}) {
			require.NoError(t, err)
			all = append(all, o.Backup)
			if o.Dropped {
				dropped++
			}
		}
		return all, dropped
	}
	all, _ := orphans()
	require.Empty(t, all)
	require.NoError(t, store.Delete(t.Context(), "backups/"+string(incr.ID)))
	all, dropped := orphans()
	require.NotEmpty(t, all)
	require.NotContains(t, all, full.ID, "which needs its packs")
	require.Equal(t, len(all), dropped)
	flipBit(t, store, backup.DroppedKey(incr.ID), 10)
	again, dropped := orphans()
	require.Equal(t, all, again)
	require.Zero(t, dropped)
}
