package restore_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

var (
	_ fs.ReadDirFS  = (*restore.FS)(nil)
	_ fs.ReadFileFS = (*restore.FS)(nil)
	_ fs.StatFS     = (*restore.FS)(nil)
)

// randomFile is what every file of an FS that is open can do.
type randomFile interface {
	fs.File
	io.ReaderAt
	io.Seeker
}

// openFS opens a backup as a file system.
func openFS(t testing.TB, r *repo.Repo, id backup.ID, o *restore.FSOptions) *restore.FS {
	t.Helper()
	s, err := restore.OpenFS(t.Context(), r, id, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// openFile opens a file that there is.
func openFile(t testing.TB, s fs.FS, name string) randomFile {
	t.Helper()
	f, err := s.Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	random, ok := f.(randomFile)
	require.True(t, ok)
	return random
}

// one makes a file, beside the one that every cluster has.
func one(name string, content []byte) fstest.MapFS {
	return fstest.MapFS{"PG_VERSION": {Data: []byte("18\n")}, name: {Data: content}}
}

func TestFSConforms(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		f := newFake(t, encrypted, &backuptest.Options{Tablespaces: spaces})
		s := openFS(t, f.repo, f.m.ID, nil)
		require.NoError(t, fstest.TestFS(s,
			"PG_VERSION", "backup_label", "tablespace_map", "global/pg_control", "global/1262", "base/5/16384", "base/5/16390", "pg_wal/archive_status",
			"pg_tblspc/16385/PG_18_202600000/5/16400", "pg_tblspc/16390/PG_18_202600000/5/16400", "pg_multixact/members/0000", "pg_stat_tmp"))
		m := s.Manifest()
		require.Equal(t, f.m.ID, m.ID)
		for name, want := range map[string]string{"backup_label": m.Label, "tablespace_map": m.TablespaceMap, "global/pg_control": string(m.Control)} {
			got, err := s.ReadFile(name)
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
		requireCluster(t, s, f.c)
		info, err := s.Stat("base/5/16384")
		require.NoError(t, err)
		require.Equal(t, m.StoppedAt, info.ModTime())
		require.Equal(t, fs.FileMode(0o400), info.Mode())
	}
}

// requireCluster requires a file system to hold just the files of a cluster, and those that a backup adds.
func requireCluster(t *testing.T, s fs.FS, c *backuptest.Cluster) {
	t.Helper()
	got := files(t, s)
	want := append(c.Files(), "backup_label", "global/pg_control")
	if slices.Contains(got, "tablespace_map") {
		want = append(want, "tablespace_map")
	}
	require.ElementsMatch(t, want, got)
	for _, p := range c.Files() {
		b, err := c.Read(p)
		require.NoError(t, err)
		have, err := fs.ReadFile(s, p)
		require.NoError(t, err)
		require.True(t, bytes.Equal(b, have), p)
	}
}

// files lists all files of a file system.
func files(t *testing.T, s fs.FS) (all []string) {
	t.Helper()
	require.NoError(t, fs.WalkDir(s, ".", func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, p)
		}
		return err
	}))
	return all
}

// Where a backup has no tablespaces there is no map of them.
func TestFSWithoutTablespaces(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	s := openFS(t, f.repo, f.m.ID, nil)
	_, err := s.Stat("tablespace_map")
	require.ErrorIs(t, err, fs.ErrNotExist)
	entries, err := s.ReadDir("pg_tblspc")
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestFSNames(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	_, err := restore.OpenFS(t.Context(), f.repo, "20200101T000000Z-000000", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	s := openFS(t, f.repo, f.m.ID, nil)
	all := func(name string) (errs []error) {
		_, err := s.Open(name)
		_, statErr := s.Stat(name)
		_, dirErr := s.ReadDir(name)
		_, fileErr := s.ReadFile(name)
		return []error{err, statErr, dirErr, fileErr}
	}
	for _, name := range []string{"", "/", "/base", "base/", "./base", "../x", "base/../base", "base//5", `base\..\..\x`, "base/5/16384/x", "base/5/1638", "base/6", "pg_tblspc/1638"} {
		want := fs.ErrNotExist
		if !fs.ValidPath(name) {
			want = fs.ErrInvalid
		}
		for _, err := range all(name) {
			require.ErrorIs(t, err, want, name)
			require.True(t, is[*fs.PathError](err), name)
		}
	}
	_, err = s.ReadFile("base")
	require.ErrorContains(t, err, "read base: is a directory")
	_, err = s.ReadDir("PG_VERSION")
	require.ErrorContains(t, err, "readdir PG_VERSION: not a directory")
	d, err := s.Open(".")
	require.NoError(t, err)
	_, err = d.Read(make([]byte, 1))
	require.ErrorContains(t, err, "is a directory")

	file := openFile(t, s, "PG_VERSION")
	_, err = file.ReadAt(make([]byte, 1), -1)
	require.ErrorIs(t, err, fs.ErrInvalid)
	for _, seek := range []struct {
		off    int64
		whence int
	}{{-1, io.SeekStart}, {-1, io.SeekCurrent}, {-4, io.SeekEnd}, {0, 3}} {
		_, err = file.Seek(seek.off, seek.whence)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	require.NoError(t, file.Close())
	_, err = file.Read(make([]byte, 1))
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)

	f.craft(t, func(m *backup.Manifest) { sized("huge", 1<<40)(m) })
	s = openFS(t, f.repo, f.m.ID, nil)
	_, err = s.ReadFile("huge")
	require.ErrorContains(t, err, "too many for memory")
	huge, zeros := openFile(t, s, "huge"), bytes.Repeat([]byte{1}, 100)
	n, err := huge.ReadAt(zeros, 1<<40-50)
	require.Equal(t, io.EOF, err)
	require.Equal(t, make([]byte, 50), zeros[:n])
}

// After Close there is nothing, and reads that were under way end.
func TestFSClose(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	reading := make(chan struct{})
	r, err := f.open(t, stalled{f.store, reading})
	require.NoError(t, err)
	s := openFS(t, r, f.m.ID, nil)
	d, err := s.Open("base")
	require.NoError(t, err)
	file := openFile(t, s, "base/5/16384")
	label := openFile(t, s, "backup_label")
	ended := make(chan error)
	go func() {
		_, err := file.Read(make([]byte, 1))
		ended <- err
	}()
	<-reading
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-ended, fs.ErrClosed)
	for _, err := range func() []error {
		_, read := file.Read(make([]byte, 1))
		_, readAt := label.ReadAt(make([]byte, 1), 0)
		_, open := s.Open("base")
		_, stat := s.Stat("base")
		_, list := s.ReadDir("base")
		_, whole := s.ReadFile("backup_label")
		_, listed := d.(fs.ReadDirFile).ReadDir(-1)
		return []error{read, readAt, open, stat, list, whole, listed}
	}() {
		require.ErrorIs(t, err, fs.ErrClosed)
	}
	require.NoError(t, file.Close())
	require.NoError(t, s.Close(), "once more")
}

// stalled is a store whose packs are not opened before the context ends.
type stalled struct {
	repo.Store

	reading chan struct{}
}

func (s stalled) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if !strings.HasPrefix(key, "packs/") {
		return s.Store.Open(ctx, key, off, n)
	}
	s.reading <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// The context given to OpenFS ends reads.
func TestFSEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	reading := make(chan struct{})
	r, err := f.open(t, stalled{f.store, reading})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := restore.OpenFS(ctx, r, f.m.ID, nil)
	require.NoError(t, err)
	ended := make(chan error)
	go func() {
		_, err := s.ReadFile("base/5/16384")
		ended <- err
	}()
	<-reading
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}
