package restore_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// TestOnlyDatabase restores one database of several on every major version, while the WAL changes the others in every way
// that finds pages of theirs that are zero: it is what it was, and the others can be dropped.
func TestOnlyDatabase(t *testing.T) {
	t.Parallel()
	someMajors(t, func(t *testing.T, major int) {
		conf := archiving()
		conf["autovacuum"] = "off"
		// Without checksums, that a page is all visible is in the WAL without the page.
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: conf, NoChecksums: major%2 == 0, SegmentSize: 1 << 20})
		c.Exec(t, fmt.Sprintf(`create tablespace aside location '%s'`, ownDir(t, pgtest.Dir(t), "aside")), `create database kept`)
		for _, db := range []string{"other", "spread", "gone"} {
			c.Exec(t, `create database `+db+map[bool]string{true: ` tablespace aside`}[db == "spread"])
			c.ExecIn(t, db, `create table t as select i, i % 10 as k, md5(i::text) as text from generate_series(1, 20000) i`,
				`create index on t (i)`, `create index on t using hash (k)`, `create table cut as select * from t`, `create sequence s`)
		}
		c.ExecIn(t, "kept", `create table t as select i, md5(i::text) as text from generate_series(1, 5000) i`, `create index on t (i)`)
		r := newRepo(t, false)
		m, err := backup.Take(t.Context(), r, source(t, c), nil)
		require.NoError(t, err)

		load := pgtest.StartLoad(t, c, &pgtest.LoadOptions{Database: "other"})
		c.ExecIn(t, "kept", `update t set text = 'new' where i % 7 = 0`, `vacuum t`, `create table later as select * from t`)
		for _, db := range []string{"other", "spread", "gone"} {
			c.ExecIn(t, db, `vacuum t`, `delete from t where i % 3 = 0`, `vacuum t`, `truncate cut`, `select nextval('s')`,
				`alter table t alter column k type bigint`, `vacuum full pg_class`, `vacuum full pg_attribute`, `reindex table t`)
		}
		load.Stop(t)
		c.Exec(t, `drop database gone`, `create database fresh`, `create database copied template other`, `alter database spread set tablespace pg_default`)
		if major >= 15 {
			c.Exec(t, `create database by_file template other strategy file_copy`)
		}
		c.ExecIn(t, "fresh", `create table t as select i from generate_series(1, 1000) i`)
		want := pgtest.Checksums(t, c)
		maps.DeleteFunc(want, func(name, _ string) bool {
			db, _, _ := strings.Cut(name, ".")
			return db == "other" || db == "spread" || db == "by_file" || db == "copied" && major < 15
		})
		pushAll(t, c, r)
		c.Stop(t)

		p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
		require.NoError(t, err)
		dir := filepath.Join(pgtest.Dir(t), "data")
		result, err := p.Run(t.Context(), r, dir, &restore.Options{Databases: []string{"kept"}, TablespacesInPlace: true})
		require.NoError(t, err)
		require.Contains(t, result.Warnings[0], "other (base/")
		require.Less(t, result.RestoredBytes, m.ClusterBytes)
		if major%2 == 0 {
			_, err := pgtest.TryBoot(t, dir, major, &pgtest.BootOptions{Conf: map[string]string{"ignore_invalid_pages": "off"}})
			require.ErrorContains(t, err, "WAL contains references to invalid pages", "the setting is not needed any more")
		}
		b := pgtest.Boot(t, dir, major, nil)
		// What is ignored is in the log, and nothing of it is of what was restored.
		ignored := regexp.MustCompile(`page \d+ of relation (\S+) (?:is|was|does|did)`).FindAllStringSubmatch(b.Log(t), -1)
		require.Equal(t, major%2 == 0, len(ignored) > 0)
		for _, page := range ignored {
			oid, ok := pgfile.DatabaseOf(page[1])
			require.True(t, ok, page[0])
			require.Contains(t, []string{"other", "spread", "gone"}, m.Catalog.DatabaseName(oid), page[0])
		}
		// None of the others lets anybody connect, nor makes the server panic.
		others := []string{"other", "spread", "by_file", "copied"}
		for _, db := range others {
			if _, there := want[db]; there || db == "by_file" && major < 15 {
				continue
			}
			_, err := pgx.Connect(t.Context(), b.DSN(db))
			require.ErrorContains(t, err, "is not a valid data directory", db)
			b.Exec(t, `drop database `+db)
		}
		require.Equal(t, want, pgtest.Checksums(t, b))
		pgtest.Amcheck(t, b)
		require.Equal(t, "on", pgtest.Value[string](t, b, `show ignore_invalid_pages`))
		b.Exec(t, `alter system reset ignore_invalid_pages`)
		b.Restart(t)
		require.Equal(t, "off", pgtest.Value[string](t, b, `show ignore_invalid_pages`))
	})
}

// manyDatabases are the files of a cluster with some databases, and their names.
func manyDatabases() *backuptest.Options {
	files := fstest.MapFS{"PG_VERSION": {Data: []byte("18\n")}, "global/1262": {Data: []byte(strings.Repeat("shared", 4000))}}
	for _, dir := range []string{"base/1", "base/5", "base/16400", "base/16500", "pg_tblspc/16385/PG_18_202506291/16500", "base/16600", "base/16700"} {
		files[dir+"/PG_VERSION"] = &fstest.MapFile{Data: []byte("18\n")}
		files[dir+"/16384"] = &fstest.MapFile{Data: []byte(strings.Repeat(dir+"\n", 4096))}
	}
	names := []backup.Database{
		{OID: 1, Name: "template1"}, {OID: 5, Name: "renamed"}, {OID: 16400, Name: "kept"}, {OID: 16500, Name: "other"}, {OID: 16700, Name: "template0"},
	}
	return &backuptest.Options{Files: files, Tablespaces: spaces[:1], Catalog: &backup.Catalog{Databases: names}}
}

// All files of what is left out are there, zero; what belongs to the cluster, or has no name, is whole.
func TestLeftOutDatabases(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, manyDatabases())
	dir := newDir(t)
	result, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Databases: []string{"kept"}, TablespacesInPlace: true})
	require.NoError(t, err)
	require.Len(t, result.Warnings, 2)
	require.Contains(t, result.Warnings[0], "other (base/16500)")
	whole := newDir(t)
	_, err = f.plan(t).Run(t.Context(), f.repo, whole, &restore.Options{TablespacesInPlace: true})
	require.NoError(t, err)
	for _, file := range f.m.FileList {
		want, err := os.ReadFile(filepath.Join(whole, file.Path))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, file.Path))
		require.NoError(t, err)
		if strings.Contains(file.Path, "/16500/") {
			want = make([]byte, len(want))
		}
		if file.Path != "postgresql.auto.conf" {
			require.Equal(t, want, got, file.Path)
		}
	}
	auto, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
	require.NoError(t, err)
	require.Contains(t, string(auto), "\nignore_invalid_pages = 'on'\n")
	text, err := json.Marshal(result)
	require.NoError(t, err)
	require.Contains(t, string(text), "drop the databases that are not restored")

	// The same with all that may be left out.
	result, err = f.plan(t).Run(t.Context(), f.repo, newDir(t), &restore.Options{Databases: []string{"kept", "other"}, TablespacesInPlace: true})
	require.NoError(t, err)
	require.Empty(t, result.Warnings)
}

func TestDatabasesThatAreNotThere(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, manyDatabases())
	dir := newDir(t)
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Databases: []string{"kept", "ketp"}, TablespacesInPlace: true})
	var unknown *restore.DatabaseError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, &restore.DatabaseError{Name: "ketp", Backup: f.m.ID, Names: []string{"kept", "other", "renamed", "template0", "template1"}}, unknown)
	require.ErrorContains(t, err, `has no database "ketp", only kept, other, renamed, template0, template1`)
	require.NoDirExists(t, dir)

	f = newFake(t, false, nil)
	_, err = f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Databases: []string{"kept"}})
	require.ErrorAs(t, err, &unknown)
	require.ErrorContains(t, err, "does not know the names")
}

// Packs that hold nothing else are not fetched, nor is a frame decompressed that does not.
func TestLeaveOutPieces(t *testing.T) {
	t.Parallel()
	m := &backup.Manifest{
		FileList: []backup.File{{Path: "base/16400/1", Size: 9, Data: 9}, {Path: "base/16500/1", Size: 9, Data: 9}, {Path: "base/16500/PG_VERSION", Size: 3, Data: 3}},
		PackList: []backup.PackPieces{
			{Pack: repo.Pack{Key: "both"}, Pieces: [][]backup.Piece{{{File: 0, Length: 4}, {File: 1, Length: 4}}, {{File: 1, Offset: 4, Length: 5}, {File: backup.NoFile, Length: 1}}, nil}},
			{Pack: repo.Pack{Key: "other"}, Pieces: [][]backup.Piece{{{File: 2, Length: 3}}, nil}},
			{Pack: repo.Pack{Key: "kept"}, Pieces: [][]backup.Piece{nil, {{File: 0, Offset: 4, Length: 5}}}},
		},
	}
	restore.LeaveOut(m, []backup.Database{{OID: 16500}})
	require.Equal(t, []backup.File{{Path: "base/16400/1", Size: 9, Data: 9}, {Path: "base/16500/1", Size: 9}, {Path: "base/16500/PG_VERSION", Size: 3}}, m.FileList)
	require.Equal(t, []backup.PackPieces{
		{Pack: repo.Pack{Key: "both"}, Pieces: [][]backup.Piece{{{File: 0, Length: 4}, {File: backup.NoFile, Offset: 0, Length: 4}}, nil, nil}},
		{Pack: repo.Pack{Key: "kept"}, Pieces: [][]backup.Piece{nil, {{File: 0, Offset: 4, Length: 5}}}},
	}, m.PackList)
}

// TestSelectedTables selects a table: it comes with its indexes and TOAST, the database's catalogs and sequences, and what
// has no name, whatever the files are called.
func TestSelectedTables(t *testing.T) {
	t.Parallel()
	content := &fstest.MapFile{Data: []byte(strings.Repeat("content\n", 1024))}
	files := fstest.MapFS{"PG_VERSION": {Data: []byte("18\n")}}
	whole := []string{
		"global/1262", "pg_xact/0000", "base/16400/pg_filenode.map", "base/16400/30000", "base/16400/2608", "base/16400/16500", "base/16400/16500_fsm",
		"base/16400/16500_vm", "base/16400/16500_init", "base/16400/16500.1", "pg_tblspc/16385/PG_18_202506291/16400/16501", "base/16400/16502",
		"base/16400/16503", "base/16400/16600", "base/16400/99999", "base/16800/16500",
	}
	zero := []string{
		"base/1/1259", "base/16700/16500", "base/16400/2613", "base/16400/2683", "base/16400/16510", "base/16400/16511", "base/16400/16512",
		"base/16400/16513", "base/16400/16514", "pg_tblspc/16385/PG_18_202506291/16400/16500",
	}
	for _, path := range slices.Concat(whole, zero) {
		files[path] = content
	}
	relation := func(oid, of, filenode uint32, kind string) backup.Relation {
		return backup.Relation{Database: 16400, OID: oid, Of: of, Filenode: filenode, Kind: kind, Tablespace: 1663}
	}
	elsewhere := relation(16401, 16500, 16501, "i")
	elsewhere.Tablespace = 16385
	same := relation(16419, 0, 16500, "r")
	same.Tablespace = 16385
	catalog := &backup.Catalog{
		Databases: []backup.Database{{OID: 1, Name: "template1"}, {OID: 16400, Name: "shop"}, {OID: 16700, Name: "other"}},
		Relations: []backup.Relation{
			relation(1259, 0, 30000, "r"), relation(2608, 0, 2608, "r"), relation(2613, 0, 2613, "r"), relation(2683, 2613, 2683, "i"),
			elsewhere, relation(16410, 0, 16510, "r"), relation(16411, 16410, 16511, "i"), relation(16412, 16410, 16512, "t"),
			relation(16413, 16412, 16513, "i"), relation(16414, 0, 16514, "m"), same, relation(16500, 0, 16500, "r"),
			relation(16502, 16500, 16502, "t"), relation(16503, 16502, 16503, "i"), relation(16600, 0, 16600, "S"),
		},
	}
	f := newFake(t, false, &backuptest.Options{Files: files, Tablespaces: spaces[:1], Catalog: catalog})
	dir := newDir(t)
	result, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{
		Databases: []string{"shop"}, Tables: []uint32{16500, 77777}, TablespacesInPlace: true,
	})
	require.NoError(t, err)
	for _, path := range slices.Concat(whole, zero) {
		got, err := os.ReadFile(filepath.Join(dir, path))
		require.NoError(t, err)
		want := content.Data
		if slices.Contains(zero, path) {
			want = make([]byte, len(want))
		}
		require.Equal(t, want, got, path)
		require.Equal(t, slices.Contains(whole, path) && !strings.HasPrefix(path, "base/16800/"), result.Restored(path), path)
	}
	require.True(t, result.Restored("base/16400/88888"), "created since")
	require.False(t, result.Restored("base/16900/16500"), "a database that was created since may be made of others")
	require.Contains(t, result.Warnings[0], "only some tables of database shop")
	auto, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
	require.NoError(t, err)
	require.Contains(t, string(auto), "\nignore_invalid_pages = 'on'\n")

	// None is not all.
	_, err = f.plan(t).Run(t.Context(), f.repo, newDir(t), &restore.Options{Databases: []string{"shop"}, Tables: []uint32{}, TablespacesInPlace: true})
	require.NoError(t, err)

	// What is not known of a database cannot be left out.
	_, err = f.plan(t).Run(t.Context(), f.repo, newDir(t), &restore.Options{Databases: []string{"other"}, Tables: []uint32{16500}, TablespacesInPlace: true})
	var unknown *restore.DatabaseError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, &restore.DatabaseError{Name: "other", Backup: f.m.ID}, unknown)
	require.ErrorContains(t, err, "does not know the names")
	for _, databases := range [][]string{nil, {"shop", "other"}} {
		_, err = f.plan(t).Run(t.Context(), f.repo, newDir(t), &restore.Options{Databases: databases, Tables: []uint32{}, TablespacesInPlace: true})
		require.ErrorContains(t, err, "Tables are of one database")
	}
}
