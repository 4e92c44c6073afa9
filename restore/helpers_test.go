package restore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// fake is a repository in memory with a backup of a cluster that needs no server.
type fake struct {
	store  repo.Store
	cipher repo.Cipher // nil: not encrypted
	repo   *repo.Repo
	c      *backuptest.Cluster
	m      *backup.Manifest
}

// newFake takes a backup of a fake cluster, and archives some WAL after it.
func newFake(t *testing.T, encrypted bool, o *backuptest.Options) *fake {
	t.Helper()
	f := &fake{store: repotest.Mem(nil), c: backuptest.New(o)}
	if encrypted {
		f.cipher, _ = newCipher(t)
	}
	var err error
	f.repo, err = repo.Init(t.Context(), f.store, &repo.Options{Cipher: f.cipher, Now: f.c.Now})
	require.NoError(t, err)
	f.m, err = backup.Take(t.Context(), f.repo, f.c, &backup.Options{Jobs: 1})
	require.NoError(t, err)
	f.c.Switch(1)
	require.NoError(t, f.archive(t))
	return f
}

// archive has the cluster archive all WAL it has completed.
func (f *fake) archive(t *testing.T) error {
	t.Helper()
	a, err := wal.NewArchive(f.repo, nil)
	require.NoError(t, err)
	return f.c.Archive(t.Context(), a)
}

// open opens the repository in another store, which is some view of its own.
func (f *fake) open(t *testing.T, s repo.Store) (*repo.Repo, error) {
	t.Helper()
	return repo.Open(t.Context(), s, &repo.Options{Cipher: f.cipher, Now: f.c.Now})
}

// plan plans a recovery to the end of the archive.
func (f *fake) plan(t *testing.T) *restore.Plan {
	t.Helper()
	p, err := restore.Prepare(t.Context(), f.repo, restore.Latest(), nil)
	require.NoError(t, err)
	return p
}

// newCipher returns a cipher for a new key: one that can do all, and one that can only write.
func newCipher(t testing.TB) (all, write repo.Cipher) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	all, err = crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
	require.NoError(t, err)
	write, err = crypto.New([]age.Recipient{id.Recipient()}, nil)
	require.NoError(t, err)
	return all, write
}

// someMajors is [pgtest.Each] for what hardly depends on the version: on the oldest, the distribution's and the newest
// server, or on all with -soak.
func someMajors(t *testing.T, f func(t *testing.T, major int)) {
	t.Helper()
	all := pgtest.Majors()
	if !*soak {
		all = []int{all[0], pgtest.DistroMajor(t), pgtest.Newest()}
	}
	for _, major := range pgtest.Some(slices.Compact(all)...) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			f(t, major)
		})
	}
}

// newDir returns a directory that does not exist yet.
func newDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "data")
}

// tree lists all that is below a directory, with sizes and modes.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(p, dir) + " " + info.Mode().String()
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + string(b)
		}
		all = append(all, line)
		return nil
	}))
	return all
}

// requireNoCluster requires that a directory is none that a server would start on.
func requireNoCluster(t *testing.T, dir string) {
	t.Helper()
	_, err := os.Lstat(filepath.Join(dir, "global", "pg_control"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// requireNoAnswer requires an error that does not claim that something does not exist.
func requireNoAnswer(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, repo.ErrNoRepository)
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

// is tells whether an error is of a type.
func is[T error](err error) bool {
	var want T
	return errors.As(err, &want)
}

// coverage lists the archive.
func (f *fake) coverage(t *testing.T) wal.Coverage {
	t.Helper()
	a, err := wal.NewArchive(f.repo, nil)
	require.NoError(t, err)
	c, err := a.Coverage(t.Context())
	require.NoError(t, err)
	return c
}
