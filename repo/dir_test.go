package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestOpenDir(t *testing.T) {
	repotest.TestStore(t, func(t *testing.T) repo.Store { return openDir(t, t.TempDir(), nil) })
}

func openDir(t *testing.T, dir string, o *repo.DirOptions) repo.Store {
	t.Helper()
	s, err := repo.OpenDir(dir, o)
	require.NoError(t, err)
	return s
}

// later is a clock by which every file of a test is old.
func later() time.Time { return time.Now().Add(time.Hour) }

func writeObject(s repo.Store, key, data string) error {
	w, err := s.Create(context.Background(), key)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write([]byte(data)); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// temps returns the unfinished files under dir.
func temps(t *testing.T, dir string) []string {
	t.Helper()
	found := []string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".pgcairn-tmp-") {
			found = append(found, path)
		}
		return err
	}))
	return found
}

// readOnlyMode takes the permission to write from the directories of a tree.
func readOnlyMode(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		t.Cleanup(func() { _ = os.Chmod(path, 0o700) })
		return os.Chmod(path, 0o500)
	}))
}

func requireNoAnswer(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, fs.ErrExist)
}

func TestDirIsMadeUnlessItMustExist(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	_, err := repo.OpenDir(dir, &repo.DirOptions{MustExist: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoDirExists(t, filepath.Dir(dir))

	s := openDir(t, dir, nil)
	require.NoError(t, writeObject(s, "x/y", "data"))
	for path, mode := range map[string]fs.FileMode{".": 0o700, "x": 0o700, "x/y": 0o600} {
		fi, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		assert.Equal(t, mode, fi.Mode().Perm(), path)
	}
	openDir(t, dir, &repo.DirOptions{MustExist: true})

	_, err = repo.OpenDir(filepath.Join(dir, "x/y"), nil)
	require.ErrorContains(t, err, "not a directory")
	_, err = repo.OpenDir(filepath.Join(dir, "x/y/z"), nil)
	require.ErrorContains(t, err, "not a directory")
}

func TestDirCommittedFileIsPlain(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writeObject(openDir(t, dir, nil), "a/b", "the bytes"))
	got, err := os.ReadFile(filepath.Join(dir, "a/b"))
	require.NoError(t, err)
	assert.Equal(t, "the bytes", string(got))
	assert.Empty(t, temps(t, dir))
}

func TestDirSymlinksLeadNowhere(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	for link, target := range map[string]string{
		"file": secret, "relative": filepath.Join("..", filepath.Base(outside), "secret"), "dir": outside, "dangling": filepath.Join(outside, "none"),
	} {
		t.Run(link, func(t *testing.T) {
			dir := filepath.Join(dir, link)
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.Symlink(target, filepath.Join(dir, "link")))
			s := openDir(t, dir, nil)
			for _, key := range []string{"link", "link/secret", "link/new"} {
				if key != "link" && link != "dir" && link != "dangling" {
					continue // under what is no directory there is nothing
				}
				_, err := s.Open(t.Context(), key, 0, -1)
				requireNoAnswer(t, err)
				_, err = s.Stat(t.Context(), key)
				requireNoAnswer(t, err)
				requireNoAnswer(t, s.Delete(t.Context(), key))
				requireNoAnswer(t, writeObject(s, key, "overwritten"))
			}
			for _, err := range s.List(t.Context(), "") {
				requireNoAnswer(t, err) // rather than an empty list
			}
		})
	}
	got, err := os.ReadFile(secret)
	require.NoError(t, err)
	assert.Equal(t, "secret", string(got))
	names, err := os.ReadDir(outside)
	require.NoError(t, err)
	assert.Len(t, names, 1)
}

func TestDirRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	s := openDir(t, dir, nil)
	_, err := s.Open(t.Context(), "fifo", 0, -1)
	requireNoAnswer(t, err)
	requireNoAnswer(t, writeObject(s, "fifo", ""))
	for _, err := range s.List(t.Context(), "") {
		requireNoAnswer(t, err)
	}
}

func TestDirKeyIsNotAlsoAFolder(t *testing.T) {
	s := openDir(t, t.TempDir(), nil)
	require.NoError(t, writeObject(s, "object", ""))
	require.NoError(t, writeObject(s, "folder/object", ""))
	for _, key := range []string{"object/under", "object/far/under", "folder"} {
		var keyErr *repo.KeyError
		err := writeObject(s, key, "")
		require.ErrorAs(t, err, &keyErr)
		requireNoAnswer(t, err)
	}
}

func TestDirPassesOverForeignNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{`back\slash`, "control\x01", "not UTF-8 \xff", ".pgcairn-tmp-foreign"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	s := openDir(t, dir, nil)
	require.NoError(t, writeObject(s, "object", ""))
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		assert.Equal(t, "object", info.Key)
	}
}

func TestDirUnwritable(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	require.NoError(t, writeObject(s, "a/there", "data"))
	readOnly(t, dir)
	s = openDir(t, dir, nil) // by another process, say
	requireNoAnswer(t, writeObject(s, "a/new", "data"))
	requireNoAnswer(t, writeObject(s, "b/new", "data"))
	err := s.Delete(t.Context(), "a/there")
	requireNoAnswer(t, err)
	require.ErrorIs(t, err, repo.ErrRefused)
	require.NoError(t, s.Delete(t.Context(), "a/not there"))
	info, err := s.Stat(t.Context(), "a/there")
	require.NoError(t, err)
	assert.Equal(t, int64(4), info.Size)
	require.ErrorIs(t, writeObject(s, "a/there", "data"), fs.ErrExist)
}

func TestDirTempFileGone(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	w, err := s.Create(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, os.Remove(temps(t, dir)[0]))
	_, err = w.Commit()
	requireNoAnswer(t, err)
	require.NoError(t, w.Close())
}

func TestDirCleansOnlyWhatIsOldAndUnlocked(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "a", ".pgcairn-tmp-dead")
	require.NoError(t, os.Mkdir(filepath.Dir(dead), 0o700))
	require.NoError(t, os.WriteFile(dead, []byte("torn"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", "object"), nil, 0o600))

	living, err := openDir(t, dir, nil).Create(t.Context(), "a/living")
	require.NoError(t, err)
	defer living.Close()
	assert.Len(t, temps(t, dir), 2, "a file written to this moment stays")

	old := openDir(t, dir, &repo.DirOptions{Now: later})
	require.NoError(t, writeObject(old, "b/elsewhere", ""))
	assert.Len(t, temps(t, dir), 2)
	require.NoError(t, old.Delete(t.Context(), "a/object"))
	assert.Len(t, temps(t, dir), 1)
	assert.NoFileExists(t, dead)
	_, err = living.Commit()
	require.NoError(t, err, "a locked file stays")
	assert.Empty(t, temps(t, dir))
}

// Every Store here takes every temp file for old and sweeps once, so sweeps and creations meet all the time.
func TestDirSweepsSpareNewFiles(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				s, err := repo.OpenDir(dir, &repo.DirOptions{Now: later})
				if assert.NoError(t, err) {
					assert.NoError(t, writeObject(s, fmt.Sprintf("a/%d-%d", i, j), "data"))
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for info, err := range openDir(t, dir, nil).List(t.Context(), "") {
		require.NoError(t, err)
		assert.Equal(t, int64(4), info.Size)
		n++
	}
	assert.Equal(t, 200, n)
	assert.Empty(t, temps(t, dir))
}

// What is deleted while Create looks at it is created, or taken again by then, and never missing.
func TestDirCreateBesideDelete(t *testing.T) {
	t.Parallel()
	s := openDir(t, t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = s.Delete(context.WithoutCancel(ctx), "a/key")
			}
		})
	}
	for range 3000 {
		w, err := s.Create(t.Context(), "a/key")
		if err == nil {
			_, err = w.Commit()
			require.NoError(t, w.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			t.Errorf("%v", err)
			break
		}
	}
	cancel()
	wg.Wait()
}
