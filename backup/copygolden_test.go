package backup_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// A second copy asks for nothing but lists, the lease, and whom the repositories belong to.
func TestCopyAgainCostsNextToNothing(t *testing.T) {
	t.Parallel()
	mem := repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	there := repotest.Mem(nil)
	_, err := backup.Copy(t.Context(), w.repo, newRepo(t, there, nil), nil)
	require.NoError(t, err)
	var calls []repotest.Call
	var repos [2]*repo.Repo
	var stores [2]*repotest.FaultStore
	for i, s := range []repo.Store{mem, there} {
		stores[i] = repotest.Faulty(s)
		repos[i], err = repo.Open(t.Context(), stores[i], &repo.Options{Now: clock()})
		require.NoError(t, err)
	}
	_, err = backup.Copy(t.Context(), repos[0], repos[1], nil)
	require.NoError(t, err)
	for _, s := range stores {
		for _, c := range s.Calls() {
			if c.Op != repotest.OpList && c.Op != repotest.OpRead && c.Op != repotest.OpWrite && !own(c.Key) {
				calls = append(calls, c)
				require.Regexp(t, "^systems/", c.Key)
			}
		}
	}
	require.LessOrEqual(t, len(calls), 8)
}

// What earlier versions have written is copied, with the first lines of manifests as they are, and restores the same.
func TestCopyGolden(t *testing.T) {
	t.Parallel()
	other, _ := newCipher(t)
	for _, dir := range []string{golden, goldenLayout} {
		for _, name := range []string{"plain", "encrypted"} {
			t.Run(dir+" "+name, func(t *testing.T) {
				t.Parallel()
				from := openGolden(t, dir, name)
				o := &restore.Options{TablespacesInPlace: true}
				want := run(t, from, o)
				for _, cipher := range []repo.Cipher{nil, other} {
					to := newRepo(t, nil, cipher)
					_, err := backup.Copy(t.Context(), from, to, &backup.CopyOptions{Decrypt: true})
					require.NoError(t, err)
					requireCopied(t, from, to)
					requireSameFiles(t, want, run(t, to, o))
					all, err := backup.List(t.Context(), from)
					require.NoError(t, err)
					copied, err := backup.List(t.Context(), to)
					require.NoError(t, err)
					require.Equal(t, all, copied)
				}
			})
		}
	}
}
