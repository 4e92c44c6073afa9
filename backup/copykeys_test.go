package backup_test

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// cutShort has a copy end before its first manifest.
func cutShort(t *testing.T, w *worked, there repo.Store, cipher repo.Cipher) {
	t.Helper()
	newRepo(t, there, cipher)
	s := repotest.Faulty(there, repotest.Fault{Op: repotest.OpCreate, Key: "backups/*"})
	to, err := repo.Open(t.Context(), s, &repo.Options{Cipher: cipher, Now: clock()})
	require.NoError(t, err)
	_, err = backup.Copy(t.Context(), w.repo, to, nil)
	require.ErrorIs(t, err, repotest.ErrInjected)
	require.NotEmpty(t, keys(t, there, "packs/"))
	require.Empty(t, keys(t, there, "backups/"))
}

func reopen(t *testing.T, s repo.Store, cipher repo.Cipher) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: cipher, Now: clock()})
	require.NoError(t, err)
	return r
}

// A copy that was cut short and is resumed for others is for these alone: no backup is listed that they cannot read.
func TestCopyResumedForOthers(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)
	there := repotest.Mem(nil)
	before, blindBefore := newCipher(t)
	now, blindNow := newCipher(t)
	cutShort(t, w, there, blindBefore)
	left := content(t, there)

	result, err := backup.Copy(t.Context(), w.repo, reopen(t, there, blindNow), nil)
	var other *backup.CopyError
	require.ErrorAs(t, err, &other)
	require.ErrorContains(t, err, "key rotate")
	require.Equal(t, w.backups[1:], result.Backups, "whose WAL was not there")
	for _, p := range result.Problems {
		require.Equal(t, w.backups[:1], p.Backups)
		require.True(t, p.Destination)
		require.True(t, strings.HasPrefix(p.Key, "wal/"), p.Key)
		require.Equal(t, left[p.Key], content(t, there)[p.Key], "WAL is not deleted")
	}
	for key := range left {
		if strings.HasPrefix(key, "wal/") {
			require.NoError(t, there.Delete(t.Context(), key))
		}
	}
	result, err = backup.Copy(t.Context(), w.repo, reopen(t, there, blindNow), nil)
	require.NoError(t, err)
	requireSound(t, reopen(t, there, now))
	requireSameFiles(t, run(t, w.repo, nil), run(t, reopen(t, there, now), nil))
	for _, key := range keys(t, there, "packs/") {
		_, err := reopen(t, there, before).OpenObject(t.Context(), key)
		require.Error(t, err, "who was to read it before cannot any more")
	}
	require.Equal(t, w.backups[:1], result.Backups)
}

// Keys that were rotated to the new recipients will do: nothing is copied again.
func TestCopyResumedAfterRotation(t *testing.T) {
	t.Parallel()
	w := newWorked(t, nil, nil)
	there := repotest.Mem(nil)
	var ids []age.Identity
	var recipients []age.Recipient
	for range 2 {
		id, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		ids, recipients = append(ids, id), append(recipients, id.Recipient())
	}
	cipher := func(to []age.Recipient, from []age.Identity) repo.Cipher {
		c, err := crypto.New(to, from)
		require.NoError(t, err)
		return c
	}
	cutShort(t, w, there, cipher(recipients[:1], nil))
	_, err := reopen(t, there, cipher(recipients[1:], ids)).RotateKeys(t.Context())
	require.NoError(t, err)
	left := content(t, there)
	_, err = backup.Copy(t.Context(), w.repo, reopen(t, there, cipher(recipients[1:], nil)), nil)
	require.NoError(t, err)
	for _, key := range keys(t, there, "packs/") {
		if b, ok := left[key]; ok {
			require.Equal(t, b, content(t, there)[key])
		}
	}
	requireSound(t, reopen(t, there, cipher(recipients[1:], ids[1:])))
}

// What was written with a data key that is retired since, and is no backup's, is copied anew, if it may be deleted.
func TestCopyResumedAfterRetirement(t *testing.T) {
	t.Parallel()
	for name, deletes := range map[string]bool{"deletes": true, "may not delete": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorked(t, nil, nil)
			there := repotest.Mem(nil)
			all, blind := newCipher(t)
			cutShort(t, w, there, blind)
			left := content(t, there)
			retired, err := reopen(t, there, all).RetireKeys(t.Context())
			require.NoError(t, err)
			s := there
			if !deletes {
				s = appendOnly{there}
			}
			result, err := backup.Copy(t.Context(), w.repo, reopen(t, s, blind), nil)
			if !deletes {
				var other *backup.CopyError
				require.ErrorAs(t, err, &other)
				require.Empty(t, result.Backups)
				require.ElementsMatch(t, w.backups, result.Problems[0].Backups)
				require.True(t, result.Problems[0].Destination)
				require.Contains(t, result.Problems[0].Text, "may not be deleted")
				for _, key := range keys(t, there, "packs/") {
					require.Equal(t, left[key], content(t, there)[key])
				}
				return
			}
			require.NoError(t, err)
			require.Equal(t, w.backups, result.Backups)
			for _, key := range keys(t, there, "packs/") {
				of, err := reopen(t, there, all).DataKeyOf(t.Context(), key)
				require.NoError(t, err)
				require.NotEqual(t, "keys/"+retired[0]+".age", of)
			}
			requireSound(t, reopen(t, there, all))
		})
	}
}

// appendOnly is a store where nothing but leases may be deleted.
type appendOnly struct{ repo.Store }

func (s appendOnly) Delete(ctx context.Context, key string) error {
	if strings.HasPrefix(key, "leases/") {
		return s.Store.Delete(ctx, key)
	}
	return fmt.Errorf("delete %s: %w", key, repo.ErrRefused)
}

// What a backup of the other repository needs stays, whatever it is encrypted to; nor is anything deleted where that cannot
// be told.
func TestCopyKeepsWhatABackupNeeds(t *testing.T) {
	t.Parallel()
	mem, there := repotest.Mem(nil), repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	all, blind := newCipher(t)
	_, err := backup.Copy(t.Context(), w.repo, newRepo(t, there, blind), nil)
	require.NoError(t, err)
	left := content(t, there)
	packs := keys(t, there, "packs/")
	require.Equal(t, string(w.backups[0]), path.Base(path.Dir(packs[0])))
	_, err = reopen(t, there, all).RetireKeys(t.Context())
	require.NoError(t, err)
	require.NoError(t, there.Delete(t.Context(), "backups/"+string(w.backups[0])))
	m := w.take(t, backup.Incremental)
	only := &backup.CopyOptions{Backups: []backup.ID{m.ID}}
	manifest := storedBytes(t, mem, "backups/"+string(w.backups[1]))

	require.NoError(t, mem.Delete(t.Context(), "backups/"+string(w.backups[1])))
	result, err := backup.Copy(t.Context(), w.repo, reopen(t, there, blind), only)
	var other *backup.CopyError
	require.ErrorAs(t, err, &other)
	require.Equal(t, packs[0], result.Problems[0].Key)
	require.Contains(t, result.Problems[0].Text, "give an identity")

	for _, cipher := range []repo.Cipher{all, blind} { // by the manifests there, or by those of the source
		result, err = backup.Copy(t.Context(), w.repo, reopen(t, there, cipher), only)
		require.NoError(t, err)
		require.Len(t, append(result.Backups, result.Present...), 1)
		for _, key := range packs {
			require.Equal(t, left[key], content(t, there)[key])
		}
		requireSound(t, reopen(t, there, all))
		require.NoError(t, there.Delete(t.Context(), "backups/"+string(m.ID)))
		if cipher == all {
			write(t, mem, "backups/"+string(w.backups[1]), manifest)
		}
	}
}

// A backup that was copied, and has expired since, is done: to repeat that needs no identity of the other repository. With one,
// its WAL goes on.
func TestCopyOfAnExpiredBackup(t *testing.T) {
	t.Parallel()
	mem, there := repotest.Mem(nil), repotest.Mem(nil)
	w := newWorked(t, mem, nil)
	all, blind := newCipher(t)
	only := &backup.CopyOptions{Backups: w.backups[:1]}
	_, err := backup.Copy(t.Context(), w.repo, newRepo(t, there, blind), only)
	require.NoError(t, err)
	w.goOn(t)
	require.NoError(t, mem.Delete(t.Context(), "backups/"+string(w.backups[0])))
	for _, cipher := range []repo.Cipher{blind, all} {
		result, err := backup.Copy(t.Context(), w.repo, reopen(t, there, cipher), only)
		require.NoError(t, err)
		require.Equal(t, only.Backups, result.Present)
		require.Empty(t, result.Problems)
		require.Equal(t, cipher == all, result.Segments > 0)
	}
	require.Equal(t, keys(t, mem, "wal/"), keys(t, there, "wal/"))
}
