package restore_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// ownDir makes a directory for the server to use.
func ownDir(t *testing.T, elements ...string) string {
	t.Helper()
	dir := filepath.Join(elements...)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	pgtest.Own(t, dir)
	return dir
}

// paths are those of a backup's files.
func paths(m *backup.Manifest) map[string]int64 {
	all := map[string]int64{}
	for _, f := range m.FileList {
		all[f.Path] = f.Size
	}
	return all
}

// A cluster with about everything a cluster can have.
func TestShapes(t *testing.T) {
	t.Parallel()
	bySource(t, testShapes)
}

func testShapes(t *testing.T, source sourceOf) {
	base := pgtest.Dir(t)
	conf := archiving()
	conf["allow_in_place_tablespaces"] = "on"
	conf["max_locks_per_transaction"] = "4000"
	conf["recovery_target_xid"] = "1234567" // from an earlier recovery
	c := pgtest.New(t, &pgtest.Options{Conf: conf, SegmentSize: 64 << 20, InitArgs: []string{"--waldir=" + filepath.Join(base, "wal")}})
	link, err := os.Readlink(filepath.Join(c.Data, "pg_wal"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(base, "wal"), link)

	c.Exec(t,
		fmt.Sprintf(`create tablespace fast location '%s'`, ownDir(t, base, "old", "fast")),
		`create tablespace "in place" location ''`,
		`create table in_fast (i int primary key using index tablespace fast, text text) tablespace fast`,
		`insert into in_fast select i, md5(i::text) from generate_series(1, 5000) i`,
		`create table in_place tablespace "in place" as select i from generate_series(1, 100) i`,
		`create unlogged table unlogged (i int primary key, text text)`,
		`insert into unlogged select i, repeat(md5(i::text), 200) from generate_series(1, 500) i`,
		`create database many`, `create database in_fast tablespace fast`,
		`alter system set recovery_target_name = 'from an earlier recovery'`,
		`alter system set recovery_min_apply_delay = '1h'`,
	)
	c.ExecIn(t, "many", `do $$ begin for n in 1..3000 loop
		execute format('create table t%s (i int)', n); execute format('insert into t%s values (%s)', n, n); end loop; end $$`)
	temp := c.Connect(t)
	_, err = temp.Exec(t.Context(), `create temporary table temp as select i from generate_series(1, 1000) i`)
	require.NoError(t, err)
	var tempPath, unloggedPath string
	require.NoError(t, temp.QueryRow(t.Context(), `select pg_relation_filepath('temp'), pg_relation_filepath('unlogged')`).Scan(&tempPath, &unloggedPath))
	for name, text := range map[string]string{ // junk that a backup may meet
		"pgcairn.restore": "{}", "base/pgsql_tmp/pgsql_tmp1.0": "sort", "pg_replslot/x/state": "slot", "base/5/pg_internal.init.1": "cache",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(c.Data, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(c.Data, name), []byte(text), 0o600))
	}
	pgtest.Own(t, c.Data) // what the server sends it has to read
	// A link where the server would have a directory, as some distributions made it.
	require.NoError(t, os.RemoveAll(filepath.Join(c.Data, "pg_stat_tmp")))
	require.NoError(t, os.Symlink(ownDir(t, base, "stat"), filepath.Join(c.Data, "pg_stat_tmp")))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(c.Data, "link")))

	r := newRepo(t, false)
	m, err := backup.Take(t.Context(), r, backuptest.Meanwhile{
		Source: source(t, c),
		Listing: func() {
			c.Exec(t, `create database during`)
			c.ExecIn(t, "during", `create table d as select i from generate_series(1, 1000) i`)
		},
		Reading: func() {
			c.Exec(t, `drop table in_place`, `truncate in_fast`, `insert into in_fast select i, 'new' from generate_series(1, 10) i`,
				`alter system set log_line_prefix = '`+strings.Repeat("%m ", 300)+`'`, `create database after`)
			c.ExecIn(t, "after", `create table d as select i from generate_series(1, 1000) i`)
			c.ExecIn(t, "many", `drop table t1, t2`, `insert into t3 select 0 from generate_series(1, 10000)`)
		},
	}, nil)
	require.NoError(t, err)
	require.Equal(t, "fast", m.Tablespaces[0].Name)
	require.Len(t, m.Tablespaces, 1, "the one in place is part of the data directory")
	require.Equal(t, uint32(64<<20), m.WALSegmentSize)
	require.Greater(t, m.Files, 3000)
	got := paths(m)
	for _, p := range []string{
		tempPath, unloggedPath, "pgcairn.restore", "base/pgsql_tmp/pgsql_tmp1.0", "pg_replslot/x/state", "base/5/pg_internal.init.1",
		"postmaster.pid", "global/pg_control",
	} {
		require.NotContains(t, got, p)
	}
	// SQL cannot tell the link from the file.
	_, linked := got["link"]
	require.Equal(t, strings.HasSuffix(t.Name(), "/sql"), linked)
	require.Contains(t, got, unloggedPath+"_init")
	require.Subset(t, m.Directories, []string{"pg_stat_tmp", "pg_wal", "pg_replslot", "pg_tblspc"})
	c.Exec(t, `insert into in_fast values (11, 'after the backup')`)
	want := pgtest.Checksums(t, c)
	pushAll(t, c, r)

	o := &restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(base, "new", "fast")}}
	b := recovered(t, r, restore.Latest(), nil, o, nil)
	require.Equal(t, want, pgtest.Checksums(t, b))
	require.Equal(t, int64(0), pgtest.Value[int64](t, b, `select count(*) from unlogged`))
	b.Exec(t, `insert into unlogged values (1, 'works')`)
	require.Equal(t, filepath.Join(base, "new", "fast"), pgtest.Value[string](t, b, `select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'`))
	for _, setting := range []string{"recovery_target_xid", "recovery_min_apply_delay"} {
		require.Contains(t, []string{"", "0"}, pgtest.Value[string](t, b, `show `+setting), setting)
	}
	require.NotContains(t, pgtest.Value[string](t, b, `select pg_read_file('postgresql.auto.conf')`), "\nrecovery_target_name")
	pgtest.Amcheck(t, b)
}

// A relation of more than a gigabyte goes on in a second file.
func TestRelationOverOneGigabyte(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]sourceOf{"directory": source, "sql": sqlSource} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRelationOverOneGigabyte(t, source)
		})
	}
}

func testRelationOverOneGigabyte(t *testing.T, source sourceOf) {
	conf := archiving()
	conf["autovacuum"] = "off"
	conf["max_wal_size"] = "4GB"
	c := pgtest.New(t, &pgtest.Options{Distro: true, Conf: conf})
	c.Exec(t, `create table big (i int, text text) with (fillfactor = 10)`,
		`insert into big select i, repeat(md5(i::text), 26) from generate_series(1, 132000) i`) // one row a page
	path := pgtest.Value[string](t, c, `select pg_relation_filepath('big')`)
	r := newRepo(t, false)
	m, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	got := paths(m)
	require.Equal(t, int64(1<<30), got[path])
	require.Positive(t, got[path+".1"])
	c.Exec(t, `update big set text = 'changed' where i in (1, 131999)`)
	want := pgtest.Checksums(t, c)
	pushAll(t, c, r)
	c.Stop(t)
	require.NoError(t, os.RemoveAll(c.Data))

	b := recovered(t, r, restore.Latest(), nil, nil, nil)
	require.Equal(t, want, pgtest.Checksums(t, b))
	b.Stop(t)
	pgtest.PgChecksums(t, b.Data)
}

// A cluster that nobody has used, and that archives nothing: what Take itself has pushed is enough.
func TestEmptyClusterWithoutArchiving(t *testing.T) {
	t.Parallel()
	bySource(t, testEmptyClusterWithoutArchiving)
}

func testEmptyClusterWithoutArchiving(t *testing.T, source sourceOf) {
	c := pgtest.New(t, &pgtest.Options{Major: pgtest.Majors()[0], NoChecksums: true, SegmentSize: 1 << 20})
	r := newRepo(t, true)
	_, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	want := pgtest.Checksums(t, c)
	for _, target := range []restore.Target{restore.Immediate(), restore.Latest()} {
		b := recovered(t, r, target, nil, nil, nil)
		require.Equal(t, want, pgtest.Checksums(t, b))
	}
}

// A page that is damaged on disk is reported and backed up as it is; the backup succeeds.
func TestDamagedPage(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	c.Exec(t, `create table t as select i, md5(i::text) from generate_series(1, 5000) i`, `create index on t (i)`)
	path := pgtest.Value[string](t, c, `select pg_relation_filepath('t')`)
	index := pgtest.Value[string](t, c, `select pg_relation_filepath('t_i_idx')`)
	c.Stop(t)
	const page = 8192
	for p, off := range map[string]int64{path: 3*page + 5000, index: 2*page + 100} {
		f, err := os.OpenFile(filepath.Join(c.Data, p), os.O_RDWR, 0)
		require.NoError(t, err)
		var b [1]byte
		_, err = f.ReadAt(b[:], off)
		require.NoError(t, err)
		b[0] ^= 4
		_, err = f.WriteAt(b[:], off)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	c.Start(t)
	r := newRepo(t, false)
	m, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	want := map[string]uint32{path: 3, index: 2}
	got := map[string]uint32{}
	for _, b := range m.BadPageList {
		got[b.Path] = b.Block
	}
	require.Equal(t, want, got)
	all, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, 2, all[0].BadPages)

	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), nil)
	require.NoError(t, err)
	dir := newDir(t)
	_, err = p.Run(t.Context(), r, dir, nil)
	require.NoError(t, err)
	for p := range maps.Keys(want) {
		was, err := os.ReadFile(filepath.Join(c.Data, p))
		require.NoError(t, err)
		is, err := os.ReadFile(filepath.Join(dir, p))
		require.NoError(t, err)
		require.Equal(t, was, is)
	}
}

// A tablespace that was created during a backup is made by recovery, and needs no place to be restored to.
func TestTablespaceCreatedDuringTheBackup(t *testing.T) {
	t.Parallel()
	bySource(t, testTablespaceCreatedDuringTheBackup)
}

func testTablespaceCreatedDuringTheBackup(t *testing.T, source sourceOf) {
	c := pgtest.New(t, &pgtest.Options{Conf: archiving()})
	dir := ownDir(t, pgtest.Dir(t), "space")
	r := newRepo(t, false)
	m, err := backup.Take(t.Context(), r, backuptest.Meanwhile{Source: source(t, c), Listing: func() {
		c.Exec(t, fmt.Sprintf(`create tablespace late location '%s'`, dir), `create table t tablespace late as select i from generate_series(1, 1000) i`)
	}}, nil)
	require.NoError(t, err)
	require.Empty(t, m.Tablespaces)
	want := pgtest.Checksums(t, c)
	pushAll(t, c, r)
	// Recovery makes it where it was, so that place has to be free.
	c.Stop(t)
	require.NoError(t, os.RemoveAll(dir))
	ownDir(t, dir)
	b := recovered(t, r, restore.Latest(), nil, nil, nil)
	require.Equal(t, want, pgtest.Checksums(t, b))
}
