package backup_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/cryptotest"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden is a repository that an earlier pgcairn wrote, with one backup of goldenCluster, and the manifest's text.
const golden = "testdata/golden"

func goldenCluster() *backuptest.Cluster {
	return backuptest.New(&backuptest.Options{Tablespaces: []backup.Tablespace{{OID: 16385, Name: "fast", Location: "/mnt/fast"}}})
}

// goldenCipher reads the golden identity; nil is none.
func goldenCipher(t *testing.T, name string) repo.Cipher {
	t.Helper()
	if name == "plain" {
		return nil
	}
	f, err := os.Open(filepath.Join(golden, "identity.txt"))
	require.NoError(t, err)
	defer f.Close()
	ids, err := age.ParseIdentities(f)
	require.NoError(t, err)
	id, ok := ids[0].(*age.X25519Identity)
	require.True(t, ok)
	c, err := crypto.New([]age.Recipient{id.Recipient()}, ids)
	require.NoError(t, err)
	return c
}

// openGolden opens a copy of a golden repository.
func openGolden(t *testing.T, dir, name string) *repo.Repo {
	t.Helper()
	mine := filepath.Join(t.TempDir(), "repository")
	require.NoError(t, os.CopyFS(mine, os.DirFS(filepath.Join(dir, name))))
	store, err := repo.OpenDir(mine, &repo.DirOptions{MustExist: true})
	require.NoError(t, err)
	r, err := repo.Open(t.Context(), store, &repo.Options{Cipher: goldenCipher(t, name)})
	require.NoError(t, err)
	return r
}

// requireGolden requires that a manifest has a text, and would have it if it were written today.
func requireGolden(t *testing.T, r *repo.Repo, id backup.ID, want []byte) *backup.Manifest {
	t.Helper()
	m, err := backup.Load(t.Context(), r, id)
	require.NoError(t, err)
	obj, err := r.OpenObject(t.Context(), "backups/"+string(id))
	require.NoError(t, err)
	defer obj.Close()
	got, err := io.ReadAll(obj)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	text, err := m.Encode()
	require.NoError(t, err)
	require.Equal(t, string(want), string(text), "today's code writes the same manifest")
	return m
}

// What was written once can be read, listed and restored for ever.
func TestGoldenRepositories(t *testing.T) {
	for _, name := range []string{"plain", "encrypted"} {
		t.Run(name, func(t *testing.T) {
			if *update {
				writeGolden(t, name)
			}
			r := openGolden(t, golden, name)
			all := requireSound(t, r)
			require.Len(t, all, 1)
			want, err := os.ReadFile(filepath.Join(golden, name+".manifest.jsonl"))
			require.NoError(t, err)
			requireGolden(t, r, all[0].ID, want)
			spaces := map[string]string{"fast": filepath.Join(t.TempDir(), "fast")}
			require.NoError(t, goldenCluster().Compare(run(t, r, &restore.Options{Tablespaces: spaces})))
		})
	}
}

// What a killed backup once left can be taken over for ever.
func TestGoldenKilled(t *testing.T) {
	dir := filepath.Join(golden, "killed")
	if *update {
		cryptotest.SetGlobalRandom(t, 1)
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		store, err := repo.OpenDir(dir, nil)
		require.NoError(t, err)
		h := &host{store: store, o: repo.Options{Now: clock()}}
		_, err = repo.Init(t.Context(), store, &h.o)
		require.NoError(t, err)
		h.leave(t, goldenCluster(), &backup.Options{Jobs: 1})
		for _, prefix := range []string{"leases/", "probe/", "wal/", "indexes/", "systems/"} {
			for _, key := range keys(t, store, prefix) {
				require.NoError(t, store.Delete(t.Context(), key))
			}
		}
	}
	today := filepath.Join(t.TempDir(), "repository")
	require.NoError(t, os.CopyFS(today, os.DirFS(dir)))
	store, err := repo.OpenDir(today, nil)
	require.NoError(t, err)
	h := &host{store: store, o: repo.Options{Now: clock()}}
	left := keys(t, store, "packs/")
	require.NotEmpty(t, left)
	m := h.take(t, goldenCluster(), nil)
	require.Equal(t, left, packsOf(m))
	require.Zero(t, m.StoredBytes)
	r := h.open(t, store)
	requireSound(t, r)
	spaces := map[string]string{"fast": filepath.Join(t.TempDir(), "fast")}
	require.NoError(t, goldenCluster().Compare(run(t, r, &restore.Options{Tablespaces: spaces})))
}

// writeGolden makes a golden repository, the same each time as long as the code is.
func writeGolden(t *testing.T, name string) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, uint64(len(name)))
	dir := filepath.Join(golden, name)
	require.NoError(t, os.RemoveAll(dir))
	if name == "encrypted" {
		id, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		text := "# The identity of golden files: it protects nothing.\n" + id.String() + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(golden, "identity.txt"), []byte(text), 0o600))
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	store, err := repo.OpenDir(dir, nil)
	require.NoError(t, err)
	r := newRepo(t, store, goldenCipher(t, name))
	m, err := backup.Take(t.Context(), r, goldenCluster(), &backup.Options{Jobs: 1, Labels: map[string]string{"golden": name}})
	require.NoError(t, err)
	text, err := m.Encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(golden, name+".manifest.jsonl"), text, 0o600))
	for _, key := range append(keys(t, store, "leases/"), keys(t, store, "probe/")...) {
		require.NoError(t, store.Delete(t.Context(), key))
	}
	require.False(t, bytes.Contains(text, []byte(dir)))
}
