package repo_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// goldenRotatedDir holds what stands below keys/ of the encrypted golden repository once its key was rotated to
// rotatedRecipient and retired. The rest is as it was.
const (
	goldenRotatedDir = "testdata/golden-rotated"
	rotatedIdentity  = "AGE-SECRET-KEY-1D6QVAPU32G405FEEVRM6QGNF86UE7RNWAEW3JQPW44EC7ECEDVESQEL5M5"
	rotatedRecipient = "age1p3angcaqh5gzt5yh7wsg8mmqfe9p4xzsuut5yufq96t7tkvan5qs6thnu9"
)

// goldenRotated returns the objects of the repository after the rotation.
func goldenRotated(t *testing.T) map[string][]byte {
	t.Helper()
	objects := golden(t, true)
	if *update {
		s := repotest.Mem(nil)
		for key, b := range objects {
			storeBytes(t, s, key, b)
		}
		c, err := crypto.New(recipients(t, rotatedRecipient), identities(t, testIdentity, rotatedIdentity))
		require.NoError(t, err)
		r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: c, Now: testNow})
		require.NoError(t, err)
		_, err = r.RotateKeys(t.Context())
		require.NoError(t, err)
		_, err = r.RetireKeys(t.Context())
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(goldenRotatedDir))
		require.NoError(t, os.MkdirAll(filepath.Join(goldenRotatedDir, "keys"), 0o755))
		for _, key := range storedKeys(t, s, "keys/") {
			require.NoError(t, os.WriteFile(filepath.Join(goldenRotatedDir, key), storedBytes(t, s, key), 0o600))
		}
	}
	for key := range objects {
		if strings.HasPrefix(key, "keys/") {
			delete(objects, key)
		}
	}
	rest := len(objects)
	require.NoError(t, fs.WalkDir(os.DirFS(goldenRotatedDir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		objects[path], err = os.ReadFile(filepath.Join(goldenRotatedDir, path))
		return err
	}))
	require.Len(t, objects, rest+2)
	return objects
}

// What was rotated once can be read for ever, and is written with no more.
func TestGoldenRotated(t *testing.T) {
	objects := goldenRotated(t)
	s := repotest.Mem(nil)
	for key, b := range objects {
		storeBytes(t, s, key, b)
	}
	c, err := crypto.New(recipients(t, rotatedRecipient), identities(t, rotatedIdentity))
	require.NoError(t, err)
	r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: c, Now: testNow})
	require.NoError(t, err)
	_, content, err := get(t.Context(), r, goldenStream)
	require.NoError(t, err)
	assert.Equal(t, string(bytes.Join(goldenFrames, nil)), string(content))
	keys, err := r.Keys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	assert.True(t, keys[0].Retired)
	assert.Equal(t, []string{rotatedRecipient}, keys[0].Wrappings[0].Recipients)

	var mark struct {
		RetiredAt string `json:"retired_at"`
	}
	require.NoError(t, r.ReadRecord(t.Context(), "keys/"+keys[0].ID+".retired", &mark))
	assert.Equal(t, "2026-11-21T10:15:30Z", mark.RetiredAt)

	again, err := r.RotateKeys(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{keys[0].ID}, again.Unchanged)
}

// FORMAT.md shows both, and its commands read the repository.
func TestFormatOfRotatedKeys(t *testing.T) {
	objects := goldenRotated(t)
	shown := map[string]bool{}
	var commands string
	for _, b := range formatBlocks(t) {
		shown[b.file] = true
		if b.kind == "sh" {
			commands += b.content
		}
	}
	dir := t.TempDir()
	for key, b := range objects {
		if strings.HasPrefix(key, "keys/") {
			assert.True(t, shown["repo/"+goldenRotatedDir+"/"+key], key)
		}
		path := filepath.Join(dir, filepath.FromSlash(key))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	identity := filepath.Join(t.TempDir(), "identity.txt")
	require.NoError(t, os.WriteFile(identity, []byte(rotatedIdentity+"\n"), 0o600))
	content := filepath.Join(t.TempDir(), "content")
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "IDENTITY="+identity, "OBJECT="+goldenStream, "DATA_KEY="+filepath.Join(t.TempDir(), "data.key"), "CONTENT="+content)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	got, err := os.ReadFile(content)
	require.NoError(t, err)
	assert.Equal(t, string(bytes.Join(goldenFrames, nil)), string(got))
}
