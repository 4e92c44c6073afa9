package restore_test

import (
	"testing"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// A host with recipients only backs up and archives, and reads nothing: the error says whose identity it takes.
func TestRecipientsOnly(t *testing.T) {
	t.Parallel()
	alice, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	bob, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	eve, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	to := []age.Recipient{alice.Recipient(), bob.Recipient()}
	store := repotest.Mem(nil)
	c := backuptest.New(nil)
	open := func(from ...age.Identity) *repo.Repo {
		cipher, err := crypto.New(to, from)
		require.NoError(t, err)
		r, err := repo.Init(t.Context(), store, &repo.Options{Cipher: cipher, Now: c.Now, StateDir: t.TempDir()})
		require.NoError(t, err)
		return r
	}

	host := open()
	a, err := wal.NewArchive(host, nil)
	require.NoError(t, err)
	var m *backup.Manifest
	for range 2 {
		m, err = backup.Take(t.Context(), host, c, nil)
		require.NoError(t, err)
		require.NoError(t, c.Archive(t.Context(), a))
	}
	p, err := restore.Prepare(t.Context(), open(bob), restore.Latest(), nil)
	require.NoError(t, err)
	require.Equal(t, m.ID, p.Backup.ID)

	for name, r := range map[string]*repo.Repo{"recipients only": host, "another's identity": open(eve)} {
		dir := newDir(t)
		for call, f := range map[string]func() error{
			"List":    func() error { _, err := backup.List(t.Context(), r); return err },
			"Load":    func() error { _, err := backup.Load(t.Context(), r, m.ID); return err },
			"Prepare": func() error { _, err := restore.Prepare(t.Context(), r, restore.Latest(), nil); return err },
			"Run":     func() error { _, err := p.Run(t.Context(), r, dir, nil); return err },
		} {
			err := f()
			var who *crypto.IdentityError
			require.ErrorAs(t, err, &who, "%s, %s", call, name)
			require.ElementsMatch(t, []string{alice.Recipient().String(), bob.Recipient().String()}, who.Recipients)
			require.ErrorContains(t, err, alice.Recipient().String())
			requireNoAnswer(t, err)
			require.False(t, is[*repo.CorruptError](err), "%v", err)
			require.False(t, is[*restore.UnreachableError](err), "%v", err)
		}
		require.NoDirExists(t, dir)
	}
	for _, id := range []age.Identity{alice, bob} {
		dir := newDir(t)
		_, err := p.Run(t.Context(), open(id), dir, nil)
		require.NoError(t, err)
		require.NoError(t, c.Compare(dir))
	}
}
