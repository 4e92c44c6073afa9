package backup_test

import (
	"fmt"
	"testing"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/stretchr/testify/require"
)

// A pack that is there already and has lost bytes is no copy, whatever either repository is encrypted to: the backups that
// need it are not copied, and the problem says whose object it is. Once it is deleted, they are.
func TestCopyOntoDamagedPacks(t *testing.T) {
	t.Parallel()
	source, _ := newCipher(t)
	other, blind := newCipher(t)
	id, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	quantum, err := crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
	require.NoError(t, err)
	for _, way := range []struct {
		name           string
		from, to, read repo.Cipher
	}{
		{"plain", nil, nil, nil},
		{"to be encrypted", nil, blind, other},
		{"encrypted to others", source, blind, other},
		{"encrypted to the same", source, source, source},
		{"post-quantum", source, quantum, quantum},
		{"no longer post-quantum", quantum, blind, other},
		{"decrypted", source, nil, nil},
	} {
		for _, cut := range []int64{1, 16, 1 << 20} { // as much of it as there is
			t.Run(fmt.Sprint(way.name, " ", cut), func(t *testing.T) {
				t.Parallel()
				w := newWorked(t, nil, way.from)
				store := repotest.Mem(nil)
				to := newRepo(t, store, way.to)
				_, err := backup.Copy(t.Context(), w.repo, to, &backup.CopyOptions{Backups: w.backups[:1], Decrypt: true})
				require.NoError(t, err)
				key := keys(t, store, "packs/"+string(w.backups[0]))[0]
				whole := content(t, store)[key]
				require.NoError(t, store.Delete(t.Context(), key))
				write(t, store, key, []byte(whole[:max(0, len(whole)-int(cut))]))

				result, err := backup.Copy(t.Context(), w.repo, to, &backup.CopyOptions{Decrypt: true})
				var damaged *backup.CopyError
				require.ErrorAs(t, err, &damaged)
				var corrupt *repo.CorruptError
				require.ErrorAs(t, err, &corrupt)
				require.Equal(t, key, corrupt.Key)
				require.Len(t, damaged.Problems, 1)
				require.True(t, damaged.Problems[0].Destination)
				require.Equal(t, w.backups[1:], damaged.Problems[0].Backups)
				require.ErrorContains(t, err, "in the repository to copy to")
				require.Empty(t, result.Backups)

				require.NoError(t, store.Delete(t.Context(), key))
				result, err = backup.Copy(t.Context(), w.repo, to, &backup.CopyOptions{Decrypt: true})
				require.NoError(t, err)
				require.Equal(t, w.backups[1:], result.Backups)
				reader, err := repo.Open(t.Context(), store, &repo.Options{Cipher: way.read})
				require.NoError(t, err)
				requireCopied(t, w.repo, reader)
			})
		}
	}
}
