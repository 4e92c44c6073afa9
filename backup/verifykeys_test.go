package backup_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// Data keys that were wrapped anew, or are not written with any more, are those that they were.
func TestVerifyRotatedKeys(t *testing.T) {
	t.Parallel()
	var identities []age.Identity
	var recipients []age.Recipient
	for range 2 {
		id, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		identities, recipients = append(identities, id), append(recipients, id.Recipient())
	}
	store, c := repotest.Mem(nil), backuptest.New(nil)
	open := func(to []age.Recipient, from []age.Identity) *repo.Repo {
		cipher, err := crypto.New(to, from)
		require.NoError(t, err)
		r, err := repo.Init(t.Context(), store, &repo.Options{Cipher: cipher, Now: c.Now})
		require.NoError(t, err)
		return r
	}
	first, next := open(recipients[:1], identities[:1]), open(recipients[1:], identities)
	m, err := backup.Take(t.Context(), first, c, nil)
	require.NoError(t, err)
	before := verify(t, first, all)
	require.True(t, before.OK(), before)
	old := keys(t, store, "keys/")
	wrapped := storedBytes(t, store, old[0])

	_, err = next.RotateKeys(t.Context())
	require.NoError(t, err)
	_, err = next.RetireKeys(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, old, keys(t, store, "keys/"))
	report := verify(t, open(recipients[1:], identities[1:]), all)
	require.True(t, report.OK(), report)
	require.Empty(t, report.Notes)

	// What a rotation has left behind, and this host cannot open, is no problem, and is told.
	write(t, store, old[0], wrapped)
	report = verify(t, open(recipients[1:], identities[1:]), all)
	require.True(t, report.OK(), report)
	require.Len(t, report.Notes, 1)
	require.Contains(t, report.Notes[0], old[0])

	for _, key := range keys(t, store, "keys/") {
		require.NoError(t, store.Delete(t.Context(), key))
	}
	report = verify(t, open(recipients[1:], identities[1:]), all)
	require.False(t, report.OK())
	require.Equal(t, old[0], report.Problems[0].Key)
	require.Contains(t, report.Lost.Backups, m.ID)
}

// That a data key is gone a host notices that cannot decrypt: it looks at manifests, and with ReadData at all else, for the
// keys that they name.
func TestVerifyBlindMissesADataKey(t *testing.T) {
	t.Parallel()
	store, c := repotest.Mem(nil), backuptest.New(nil)
	reads, writes := newCipher(t)
	states := [...]string{t.TempDir(), t.TempDir()}
	var taken []backup.ID
	for _, state := range states { // hosts with a data key each
		r, err := repo.Init(t.Context(), store, &repo.Options{Cipher: writes, Now: c.Now, StateDir: state})
		require.NoError(t, err)
		m, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		taken = append(taken, m.ID)
	}
	there := keys(t, store, "keys/")
	require.Len(t, there, 2)
	reader := reopen(t, store, reads)
	first, err := reader.DataKeyOf(t.Context(), "backups/"+string(taken[0]))
	require.NoError(t, err)
	wrapped := storedBytes(t, store, first)
	require.NoError(t, store.Delete(t.Context(), first))
	for _, state := range states {
		host, err := repo.Open(t.Context(), store, &repo.Options{Cipher: writes, Now: c.Now, StateDir: state})
		require.NoError(t, err)
		for _, o := range []*backup.VerifyOptions{{NoReceipt: true}, {ReadData: true, NoReceipt: true}} {
			report := verify(t, host, o)
			require.Len(t, report.Problems, 1, report)
			require.Equal(t, first, report.Problems[0].Key)
			require.Contains(t, report.Lost.Backups, taken[0])
		}
	}

	// One that was wrapped anew is there under another name.
	write(t, store, strings.TrimSuffix(first, "age")+"00000001.age", wrapped)
	var lists atomic.Int32
	seen := repo.Observe(store, func(op repo.Op) {
		if op.Name == "list" && strings.HasPrefix(op.Key, "keys/") {
			lists.Add(1)
		}
	})
	host, err := repo.Open(t.Context(), seen, &repo.Options{Cipher: writes, Now: c.Now, StateDir: states[1]})
	require.NoError(t, err)
	report := verify(t, host, &backup.VerifyOptions{ReadData: true})
	require.True(t, report.OK(), report)
	require.LessOrEqual(t, lists.Load(), int32(2), "not for each object")
}

// One who can read a backup verifies it, though others are encrypted to keys that he does not open.
func TestVerifyOneOfSeveralReaders(t *testing.T) {
	t.Parallel()
	store, c := repotest.Mem(nil), backuptest.New(nil)
	mine, _ := newCipher(t)
	yours, _ := newCipher(t)
	var taken []backup.ID
	for _, cipher := range []repo.Cipher{mine, yours} {
		r, err := repo.Init(t.Context(), store, &repo.Options{Cipher: cipher, Now: c.Now})
		require.NoError(t, err)
		m, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		taken = append(taken, m.ID)
	}
	for i, cipher := range []repo.Cipher{mine, yours} {
		r, err := repo.Open(t.Context(), store, &repo.Options{Cipher: cipher, Now: c.Now})
		require.NoError(t, err)
		for _, o := range []*backup.VerifyOptions{{NoReceipt: true}, {ReadData: true}, {ReadData: true}} {
			o.Backups = taken[i : i+1]
			report := verify(t, r, o)
			require.True(t, report.OK(), report)
			require.Equal(t, 1, report.Backups)
			o.Backups = taken[1-i : 2-i]
			report = verify(t, r, o)
			require.False(t, report.OK())
			require.Len(t, report.Problems, 1, report)
			require.True(t, strings.HasPrefix(report.Problems[0].Key, "keys/"))
			require.Equal(t, o.Backups, report.Lost.Backups)
		}
		require.False(t, verify(t, r, all).OK(), "of all, one is lost to him")
	}
}
