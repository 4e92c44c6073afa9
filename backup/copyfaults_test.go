package backup_test

import (
	"context"
	"slices"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// requireReachable requires that a recovery to the end of the WAL can be planned from each backup, if there is one.
func requireReachable(t *testing.T, r *repo.Repo) {
	t.Helper()
	for _, s := range requireSound(t, r) {
		_, err := restore.Prepare(t.Context(), r, restore.Latest(), &restore.PlanOptions{Backup: s.ID})
		require.NoError(t, err)
	}
}

// Whatever call on either store fails, the error says so, what is listed can be restored, and a second copy completes it.
func TestCopyWhenAStoreFails(t *testing.T) {
	t.Parallel()
	mem := repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	for name, effect := range map[string]repotest.Effect{
		"fails": repotest.Fail(nil), "answer is lost": repotest.FailAfter(nil),
		"breaks off": repotest.Cut(100),
	} {
		for _, side := range []string{"source", "destination"} {
			t.Run(name+" "+side, func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					struck := copyWithFault(t, w.repo, mem, side, repotest.Fault{Nth: n, Do: effect}, name == "breaks off")
					if !struck {
						require.Greater(t, n, 6)
						break
					}
				}
			})
		}
	}
}

// copyWithFault copies while one store has a fault, and again without it.
func copyWithFault(
	t *testing.T, from *repo.Repo, mem repo.Store, side string, fault repotest.Fault, onlyBodies bool,
) (struck bool) {
	t.Helper()
	if onlyBodies {
		fault.Op = repotest.OpOpen
	}
	there := repotest.Mem(nil)
	newRepo(t, there, nil)
	stores := map[string]repo.Store{"source": mem, "destination": there}
	faulty := repotest.Faulty(stores[side], fault)
	stores[side] = faulty
	a, err := repo.Open(t.Context(), stores["source"], &repo.Options{Now: clock()})
	var b *repo.Repo
	if err == nil {
		b, err = repo.Open(t.Context(), stores["destination"], &repo.Options{Now: clock()})
	}
	if err == nil {
		_, err = backup.Copy(t.Context(), a, b, &backup.CopyOptions{Jobs: 1})
	}
	if faulty.Struck() == 0 {
		require.NoError(t, err)
		return false
	}
	if err != nil {
		requireNoAnswer(t, err)
		var corrupt *repo.CorruptError
		require.NotErrorAs(t, err, &corrupt, "an outage is no damage")
	}
	sound, oerr := repo.Open(t.Context(), there, &repo.Options{Now: clock()})
	require.NoError(t, oerr)
	if err != nil {
		requireReachable(t, sound)
		_, oerr = backup.Copy(t.Context(), from, sound, nil)
		require.NoError(t, oerr, "a second copy completes it: %v", err)
	}
	require.Equal(t, copiedKeys(t, from), copiedKeys(t, sound))
	return true
}

// copiedKeys are those of a repository that copies have as well.
func copiedKeys(t *testing.T, r *repo.Repo) []string {
	t.Helper()
	return slices.DeleteFunc(keys(t, r.Store(), ""), own)
}

// A copy that is given up, whenever that is, does not say that all is copied.
func TestCopyGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)
	for n, ended := 1, false; !ended; n++ {
		there := newRepo(t, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		f := func(i int) {
			if i == n {
				cancel()
			}
		}
		to, err := repo.Open(t.Context(), &unhurried{Store: there.Store(), f: f}, &repo.Options{Now: clock()})
		require.NoError(t, err)
		from, err := repo.Open(t.Context(), &unhurried{Store: w.repo.Store(), f: func(int) {}}, &repo.Options{Now: clock()})
		require.NoError(t, err)
		_, err = backup.Copy(ctx, from, to, &backup.CopyOptions{Jobs: 1})
		if err == nil {
			require.Equal(t, copiedKeys(t, w.repo), copiedKeys(t, there), "given up after %d answers", n)
		} else {
			require.ErrorIs(t, err, context.Canceled)
		}
		ended = ctx.Err() == nil
		cancel()
	}
}
