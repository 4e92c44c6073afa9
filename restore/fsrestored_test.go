package restore_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// A file system shows what a restore of the same backup makes: of a full one and of an incremental one, whose files lie
// in packs of both.
func TestFSEqualsRestore(t *testing.T) {
	t.Parallel()
	someMajors(t, func(t *testing.T, major int) {
		base := pgtest.Dir(t)
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: archiving(), NoChecksums: major%2 == 0})
		c.Exec(t, fmt.Sprintf(`create tablespace fast location '%s'`, ownDir(t, base, "old")),
			`create table there tablespace fast as select i, md5(i::text) from generate_series(1, 20000) i`,
			`create table here as select i, repeat(md5(i::text), 10) as pad from generate_series(1, 20000) i`, `create index on here (i)`, `vacuum`)
		r := newRepo(t, major%3 == 0)
		for _, kind := range []backup.Type{backup.Full, backup.Incremental} {
			m, err := backup.Take(t.Context(), r, source(t, c), &backup.Options{Type: kind})
			require.NoError(t, err)
			require.Equal(t, kind, m.Type, m.Reason)
			p, err := restore.Prepare(t.Context(), r, restore.Immediate(), &restore.PlanOptions{Backup: m.ID})
			require.NoError(t, err)
			dir, space := newDir(t), newDir(t)
			_, err = p.Run(t.Context(), r, dir, &restore.Options{Tablespaces: map[string]string{"fast": space}})
			require.NoError(t, err)
			s := openFS(t, r, m.ID, &restore.FSOptions{CacheBytes: 2 << 20})
			requireRestored(t, s, dir)
			requireRandomReads(t, s, dir, uint64(major), 40)
			if kind == backup.Incremental {
				path := pgtest.Value[string](t, c, `select pg_relation_filepath('here')`)
				require.Len(t, backupsOf(m, path), 2, "it lies in packs of both backups")
			}
			c.Exec(t, `update here set pad = 'changed' where i % 3000 = 0`, `delete from there where i % 5000 = 1`, `create table if not exists added as select 1 as i`)
		}
	})
}

// ownFiles are those that a restore makes, changes or leaves out.
func ownFiles(p string) bool {
	switch p {
	case "tablespace_map", "postgresql.auto.conf", "recovery.signal":
		return true
	}
	return path.Dir(p) == "pg_wal"
}

// requireRestored requires that a file system and a directory that was restored are equal, but for the restore's own files.
func requireRestored(t *testing.T, s fs.FS, dir string) {
	t.Helper()
	tree := func(s fs.FS, root string) (all []string) {
		require.NoError(t, fs.WalkDir(s, root, func(p string, e fs.DirEntry, err error) error {
			if err != nil || ownFiles(p) && !e.IsDir() {
				return err
			}
			if e.Type()&fs.ModeSymlink != 0 { // a tablespace
				return nil
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			size := info.Size()
			if e.IsDir() {
				size = 0
			}
			all = append(all, fmt.Sprintln(p, e.IsDir(), size))
			return nil
		}))
		return all
	}
	restored := os.DirFS(dir)
	want, links := tree(restored, "."), 0
	entries, err := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
	require.NoError(t, err)
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink != 0 {
			links++
			below := tree(os.DirFS(filepath.Join(dir, "pg_tblspc", e.Name())), ".")
			want = append(want, fmt.Sprintln("pg_tblspc/"+e.Name(), true, 0))
			for _, line := range below[1:] { // the first is the directory itself
				want = append(want, "pg_tblspc/"+e.Name()+"/"+line)
			}
		}
	}
	require.Positive(t, links)
	// The restore has described what it made.
	want = slices.DeleteFunc(want, func(line string) bool { return strings.HasPrefix(line, "backup_manifest ") })
	require.ElementsMatch(t, want, tree(s, "."))
	for _, p := range files(t, s) {
		if ownFiles(p) {
			continue
		}
		was, err := fs.ReadFile(restored, p)
		require.NoError(t, err)
		is, err := fs.ReadFile(s, p)
		require.NoError(t, err)
		require.True(t, bytes.Equal(was, is), p)
	}
}

// requireRandomReads compares what is read anywhere in files with what was restored.
func requireRandomReads(t *testing.T, s fs.FS, dir string, seed uint64, n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	all := slices.DeleteFunc(files(t, s), ownFiles)
	for range n {
		p := all[random.IntN(len(all))]
		f := openFile(t, s, p)
		want, err := os.Open(filepath.Join(dir, p))
		require.NoError(t, err)
		info, err := f.Stat()
		require.NoError(t, err)
		for range 5 {
			requireSameRead(t, want, f, random, info.Size())
		}
		require.NoError(t, want.Close())
	}
}

// requireSameRead reads from the same place in two files.
func requireSameRead(t *testing.T, want, got io.ReaderAt, random *rand.Rand, size int64) {
	t.Helper()
	off := random.Int64N(size + 10)
	was := make([]byte, 1+random.IntN(1<<random.IntN(21)))
	is := bytes.Repeat([]byte{0xa5}, len(was))
	n, err := want.ReadAt(was, off)
	k, kerr := got.ReadAt(is, off)
	require.Equal(t, n, k)
	require.Equal(t, err, kerr)
	require.True(t, bytes.Equal(was[:n], is[:k]), "%d bytes at %d of %d", len(was), off, size)
}

// Backups of a cluster that is changed at random between them: full, and incremental ones whose files lie in packs of
// many. Relations are of several segments, and read at random.
func TestFSOfIncrementals(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		random := rand.New(rand.NewPCG(7, 7))
		f := newFake(t, encrypted, &backuptest.Options{RelSegPages: 32, Tablespaces: spaces[:1], Logged: true})
		const segment = 32 * 8192
		for round := range uint64(4) {
			for _, rel := range []string{"base/5/20000", "base/5/20001", "pg_tblspc/16385/PG_18_202600000/5/20002"} {
				for n := range uint32(3) {
					name := rel
					if n > 0 {
						name = fmt.Sprintf("%s.%d", rel, n)
					}
					was, err := f.c.Read(name)
					if err != nil {
						was = backuptest.Pages(n*32, 32, round+1, fmt.Sprint(name, random.Uint64()))
					}
					for range 1 + random.IntN(9) {
						page := random.IntN(32)
						copy(was[page*8192:], backuptest.Pages(n*32+uint32(page), 1, uint64(f.m.StopLSN), fmt.Sprint(name, round, random.Uint64())))
					}
					if random.IntN(4) == 0 {
						clear(was[(20+random.IntN(12))*8192:]) // new pages
					}
					require.Len(t, was, segment)
					f.c.Write(name, was)
				}
			}
			m, err := backup.Take(t.Context(), f.repo, f.c, &backup.Options{Type: backup.Incremental, Jobs: 1})
			require.NoError(t, err)
			require.Equal(t, backup.Incremental, m.Type)
			f.m = m
			s := openFS(t, f.repo, m.ID, &restore.FSOptions{CacheBytes: 1 << 20})
			requireCluster(t, s, f.c)
			for range 100 {
				all := f.c.Files()
				name := all[random.IntN(len(all))]
				want, err := f.c.Read(name)
				require.NoError(t, err)
				requireSameRead(t, bytes.NewReader(want), openFile(t, s, name), random, int64(len(want)))
			}
		}
		require.Len(t, backupsOf(f.m, "base/5/20000.1"), 4, "it lies in packs of each backup")
	}
}

// backupsOf are those in whose packs a file lies.
func backupsOf(m *backup.Manifest, name string) map[string]bool {
	all := map[string]bool{}
	for _, p := range m.PackList {
		for _, pieces := range p.Pieces {
			for _, c := range pieces {
				if c.File != backup.NoFile && m.FileList[c.File].Path == name {
					all[path.Dir(p.Key)] = true
				}
			}
		}
	}
	return all
}
