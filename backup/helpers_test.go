package backup_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"

	"filippo.io/age"
)

// clock returns a clock that goes on by a second each time it is asked.
func clock() func() time.Time {
	return backuptest.New(nil).Now
}

// newRepo makes a repository. A nil store is one in memory.
func newRepo(t *testing.T, s repo.Store, cipher repo.Cipher) *repo.Repo {
	t.Helper()
	if s == nil {
		s = repotest.Mem(nil)
	}
	r, err := repo.Init(t.Context(), s, &repo.Options{Cipher: cipher, Now: clock()})
	require.NoError(t, err)
	return r
}

// newCipher returns a cipher for a new key: one that can do all, and one that can only write.
func newCipher(t *testing.T) (all, write repo.Cipher) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	all, err = crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
	require.NoError(t, err)
	write, err = crypto.New([]age.Recipient{id.Recipient()}, nil)
	require.NoError(t, err)
	return all, write
}

// run restores the newest backup to a new directory.
func run(t *testing.T, r *repo.Repo, o *restore.Options) string {
	t.Helper()
	p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "data")
	_, err = p.Run(t.Context(), r, dir, o)
	require.NoError(t, err)
	return dir
}

// requireSound requires that every backup listed loads, and that all its packs and its WAL are there.
func requireSound(t *testing.T, r *repo.Repo) []*backup.Summary {
	t.Helper()
	all, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for _, s := range all {
		m, err := backup.Load(t.Context(), r, s.ID)
		require.NoError(t, err)
		require.Equal(t, *s, m.Summary)
		for _, p := range m.PackList {
			require.NoError(t, r.ReadPack(t.Context(), p.Pack, func(int, []byte) error { return nil }))
		}
		for seg := m.FirstSegment(); seg.Number <= m.LastSegment().Number; seg = seg.Next() {
			n, err := wal.ParseName(seg.Name())
			require.NoError(t, err)
			have, err := a.Has(t.Context(), n)
			require.NoError(t, err)
			require.True(t, have, "segment %s of %s", seg, s.ID)
		}
	}
	return all
}

// keys lists a store.
func keys(t *testing.T, s repo.Store, prefix string) []string {
	t.Helper()
	var all []string
	for info, err := range s.List(t.Context(), prefix) {
		require.NoError(t, err)
		all = append(all, info.Key)
	}
	return all
}

// requireNoAnswer requires an error that does not claim that something does not exist.
func requireNoAnswer(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, repo.ErrNoRepository)
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// repeat returns n bytes of a text over and over.
func repeat(text string, n int) []byte {
	return []byte(strings.Repeat(text, n/len(text)+1)[:n])
}
