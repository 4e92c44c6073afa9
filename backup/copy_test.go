package backup_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// worked is a cluster that has been backed up: a full backup, then an incremental one, with WAL after each.
type worked struct {
	cluster *backuptest.Cluster
	archive *wal.Archive
	repo    *repo.Repo
	backups []backup.ID
}

// take backs up once more, and archives what comes then.
func (w *worked) take(t *testing.T, kind backup.Type) *backup.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), w.repo, w.cluster, &backup.Options{Type: kind, Jobs: 1})
	require.NoError(t, err)
	w.backups = append(w.backups, m.ID)
	w.goOn(t)
	return m
}

// goOn has the cluster write, and archives that.
func (w *worked) goOn(t *testing.T) {
	t.Helper()
	w.cluster.Write("base/5/16384", backuptest.Pages(0, 3, uint64(w.cluster.LSN()), w.cluster.LSN().String()))
	w.cluster.Switch(2)
	require.NoError(t, w.cluster.Archive(t.Context(), w.archive))
}

func newWorked(t *testing.T, s repo.Store, cipher repo.Cipher) *worked {
	t.Helper()
	w := &worked{cluster: backuptest.New(nil), repo: newRepo(t, s, cipher)}
	var err error
	w.archive, err = wal.NewArchive(w.repo, nil)
	require.NoError(t, err)
	w.take(t, backup.Full)
	w.take(t, backup.Incremental)
	return w
}

// content is all that a store holds.
func content(t *testing.T, s repo.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		body, err := s.Open(t.Context(), info.Key, 0, -1)
		require.NoError(t, err)
		b, err := io.ReadAll(body)
		require.NoError(t, errors.Join(err, body.Close()))
		all[info.Key] = string(b)
	}
	return all
}

// own are the objects that each repository has of its own, and no copy takes over.
func own(key string) bool {
	return key == "pgcairn.json" || strings.HasPrefix(key, "leases/") || strings.HasPrefix(key, "keys/")
}

// requireCopied requires that a repository holds the same objects as another, of the same bytes where neither is
// encrypted.
func requireCopied(t *testing.T, from, to *repo.Repo) {
	t.Helper()
	requireSound(t, to)
	want, got := content(t, from.Store()), content(t, to.Store())
	for _, all := range []map[string]string{want, got} {
		for key := range all {
			switch {
			case own(key):
				delete(all, key)
			case from.Encrypted() || to.Encrypted():
				all[key] = "" // as it is not the same
			}
		}
	}
	require.Equal(t, want, got)
}

func TestCopy(t *testing.T) {
	t.Parallel()
	source, _ := newCipher(t)
	other, blind := newCipher(t)
	for _, way := range []struct {
		name           string
		from, to, read repo.Cipher
		o              *backup.CopyOptions
	}{
		{"plain", nil, nil, nil, nil},
		{"to be encrypted", nil, blind, other, nil},
		{"encrypted to others", source, blind, other, nil},
		{"encrypted to the same", source, source, source, &backup.CopyOptions{Jobs: 5, Rate: 1 << 30}},
		{"decrypted", source, nil, nil, &backup.CopyOptions{Decrypt: true}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := newWorked(t, nil, way.from)
			store := repotest.Mem(nil)
			to := newRepo(t, store, way.to)
			result, err := backup.Copy(t.Context(), w.repo, to, way.o)
			require.NoError(t, err)
			require.Equal(t, w.backups, result.Backups)
			require.Empty(t, result.Present)
			reader, err := repo.Open(t.Context(), store, &repo.Options{Cipher: way.read})
			require.NoError(t, err)
			requireCopied(t, w.repo, reader)
			require.Equal(t, result.Objects, len(content(t, store))-len(keys(t, store, "leases/"))-len(keys(t, store, "keys/"))-2, "but marker and system")
			want := run(t, w.repo, nil)
			got := run(t, reader, nil)
			requireSameFiles(t, want, got)

			// What has come since, and nothing else.
			m := w.take(t, backup.Incremental)
			result, err = backup.Copy(t.Context(), w.repo, to, way.o)
			require.NoError(t, err)
			require.Equal(t, []backup.ID{m.ID}, result.Backups)
			require.Equal(t, w.backups[:2], result.Present)
			requireCopied(t, w.repo, reader)
			requireSameFiles(t, run(t, w.repo, nil), run(t, reader, nil))
			all := content(t, store)
			result, err = backup.Copy(t.Context(), w.repo, to, way.o)
			require.NoError(t, err)
			require.Zero(t, result.Objects)
			require.Zero(t, result.Bytes)
			for key, b := range content(t, store) {
				if !own(key) {
					require.Equal(t, all[key], b)
				}
			}
		})
	}
}

// requireSameFiles compares two restored data directories, but for where their WAL comes from.
func requireSameFiles(t *testing.T, want, got string) {
	t.Helper()
	read := func(dir string) map[string]string {
		all := map[string]string{}
		require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(filepath.Join(dir, p))
			all[p] = string(b)
			return err
		}))
		require.NotEmpty(t, all)
		return all
	}
	require.Equal(t, read(want), read(got))
}
