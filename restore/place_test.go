package restore_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// TestPlaces restores tablespaces into the data directory, and pg_wal out of it, on every major version: recovery drops
// and makes databases there, and so does the server later on. What it has become can be backed up and restored again.
func TestPlaces(t *testing.T) {
	t.Parallel()
	someMajors(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: archiving(), SegmentSize: 1 << 20})
		for _, name := range []string{"stays", "moves", "goes"} {
			c.Exec(t, fmt.Sprintf(`create tablespace %s location '%s'`, name, ownDir(t, pgtest.Dir(t), name)),
				fmt.Sprintf(`create table in_%[1]s tablespace %[1]s as select i, md5(i::text) as text from generate_series(1, 5000) i`, name))
		}
		c.Exec(t, `create database dropped tablespace stays`)
		r := newRepo(t, false)
		_, err := backup.Take(t.Context(), r, source(t, c), nil)
		require.NoError(t, err)
		c.Exec(t, `drop database dropped`, `create database made tablespace stays`, `drop table in_goes`, `drop tablespace goes`,
			`insert into in_stays values (0, 'later')`)
		c.ExecIn(t, "made", `create table t as select i from generate_series(1, 1000) i`)
		want := pgtest.Checksums(t, c)
		pushAll(t, c, r)
		c.Stop(t)

		wal := filepath.Join(pgtest.Dir(t), "wal")
		moved := filepath.Join(pgtest.Dir(t), "moved")
		b := recovered(t, r, restore.Latest(), nil, &restore.Options{
			Tablespaces: map[string]string{"moves": moved}, TablespacesInPlace: true, WALDirectory: wal,
		}, nil)
		require.Equal(t, want, pgtest.Checksums(t, b))
		link, err := os.Readlink(filepath.Join(b.Data, "pg_wal"))
		require.NoError(t, err)
		require.Equal(t, wal, link)
		for name, location := range map[string]string{"stays": "", "moves": moved} {
			oid := pgtest.Value[string](t, b, `select oid::text from pg_tablespace where spcname = $1`, name)
			link, err := os.Readlink(filepath.Join(b.Data, "pg_tblspc", oid))
			require.Equal(t, location, link)
			require.Equal(t, location == "", err != nil)
		}
		b.Exec(t, `alter table in_moves set tablespace stays`, `create database again tablespace stays`, `drop database made`, `drop tablespace moves`)
		pgtest.Amcheck(t, b)
		b.Restart(t)
		want = pgtest.Checksums(t, b)

		again := newRepo(t, false)
		m, err := backup.Take(t.Context(), again, source(t, b), nil)
		require.NoError(t, err)
		require.Empty(t, m.Tablespaces, "those in place are part of the data directory")
		b.Exec(t, `insert into in_stays values (0, 'later still')`)
		pushAll(t, b, again)
		want["postgres.public.in_stays"] = pgtest.Checksums(t, b)["postgres.public.in_stays"]
		b.Stop(t)
		b = recovered(t, again, restore.Latest(), nil, nil, nil)
		require.Equal(t, want, pgtest.Checksums(t, b))
		b.Exec(t, `drop database again`, `drop table in_stays, in_moves`, `drop tablespace stays`)
	})
}

// Tablespaces that nothing is said of are kept in place, if that is wished for.
func TestTablespacesInPlace(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces})
	dir, fast := newDir(t), newDir(t)
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Tablespaces: map[string]string{"fast": fast}, TablespacesInPlace: true})
	require.NoError(t, err)
	require.NoError(t, f.c.Compare(dir))
	require.FileExists(t, filepath.Join(dir, "postgresql.auto.conf"))
	info, err := os.Lstat(filepath.Join(dir, "pg_tblspc/16390"))
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o700, info.Mode())
	link, err := os.Readlink(filepath.Join(dir, "pg_tblspc/16385"))
	require.NoError(t, err)
	require.Equal(t, fast, link)
	_, err = f.plan(t).Run(t.Context(), f.repo, newDir(t), &restore.Options{Tablespaces: map[string]string{"fats": fast}, TablespacesInPlace: true})
	require.True(t, is[*restore.TablespaceError](err), "%v", err)
}

func TestWhereWALMayGo(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	base := t.TempDir()
	in := func(p string) string { return filepath.Join(base, p) }
	require.NoError(t, os.MkdirAll(in("full/x"), 0o700))
	require.NoError(t, os.MkdirAll(in("links"), 0o700))
	require.NoError(t, os.Symlink(base, in("links/base")))
	for _, tt := range []struct {
		name, wal, fast string
		failed          func(error) bool
	}{
		{"the data directory", "data", "fast", is[*restore.WALDirectoryError]},
		{"in the data directory", "data/pg_wal", "fast", is[*restore.WALDirectoryError]},
		{"around the data directory", ".", "fast", is[*restore.WALDirectoryError]},
		{"a tablespace", "wal", "wal", is[*restore.TablespaceError]},
		{"in a tablespace", "fast/wal", "fast", is[*restore.TablespaceError]},
		{"around a tablespace", "wal", "wal/fast", is[*restore.TablespaceError]},
		{"in the data directory, by a link", "links/base/data/wal", "fast", is[*restore.WALDirectoryError]},
		{"around the data directory, by a link", "links/base", "fast", is[*restore.WALDirectoryError]},
		{"in a tablespace, by a link", "links/base/fast/wal", "fast", is[*restore.TablespaceError]},
		{"a tablespace, by a link", "wal", "links/base/wal", is[*restore.TablespaceError]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := f.plan(t).Run(t.Context(), f.repo, in("data"), &restore.Options{
				WALDirectory: in(tt.wal), Tablespaces: map[string]string{"fast": in(tt.fast)},
			})
			require.True(t, tt.failed(err), "%v", err)
			require.ErrorContains(t, err, "not beside each other")
			require.NoDirExists(t, in("data"))
			require.NoDirExists(t, in("wal"))
		})
	}
	t.Run("not empty", func(t *testing.T) {
		_, err := f.plan(t).Run(t.Context(), f.repo, in("data"), &restore.Options{
			WALDirectory: in("full"), Tablespaces: map[string]string{"fast": in("fast")},
		})
		var full *restore.NotEmptyError
		require.ErrorAs(t, err, &full)
		require.Equal(t, in("full"), full.Directory)
		require.DirExists(t, in("full/x"))
	})
}

// What a restore that was cut short has left in the directory of pg_wal is the next one's to clear, if it goes there as
// well, and is in the way of any other.
func TestWALElsewhereAfterARestoreThatWasCutShort(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	base := t.TempDir()
	dir, wal := filepath.Join(base, "data"), filepath.Join(base, "wal")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.plan(t).Run(ctx, f.repo, dir, &restore.Options{WALDirectory: wal, Progress: func(p restore.Progress) {
		if p.Phase == "sync" {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	requireNoCluster(t, dir)
	staged := filepath.Join(wal, f.m.FirstSegment().Name())
	require.FileExists(t, staged)

	_, err = f.plan(t).Run(t.Context(), f.repo, filepath.Join(base, "other"), &restore.Options{WALDirectory: wal})
	require.True(t, is[*restore.NotEmptyError](err), "%v", err)
	require.NoError(t, os.WriteFile(filepath.Join(wal, "leftover"), nil, 0o600))
	_, err = f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{WALDirectory: wal})
	require.NoError(t, err)
	require.NoError(t, f.c.Compare(dir))
	require.FileExists(t, staged)
	require.NoFileExists(t, filepath.Join(wal, "leftover"))
	link, err := os.Readlink(filepath.Join(dir, "pg_wal"))
	require.NoError(t, err)
	require.Equal(t, wal, link)
}

// A link to pg_wal may be relative: to the data directory, wherever this process works.
func TestWALWhereARelativeLinkLeads(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	base := t.TempDir()
	dir, wal := filepath.Join(base, "data"), filepath.Join(base, "wal")
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{WALDirectory: wal})
	require.NoError(t, err)
	link := filepath.Join(dir, "pg_wal")
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink("../wal", link))

	_, err = f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{WALDirectory: wal, Delta: true})
	require.NoError(t, err)
	require.NoError(t, f.c.Compare(dir))
	target, err := os.Readlink(link)
	require.NoError(t, err)
	require.Equal(t, wal, target)
}
