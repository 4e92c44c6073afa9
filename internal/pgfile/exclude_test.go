package pgfile_test

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// What we leave out beyond what pg_basebackup leaves out, each for a reason.
var beyond = map[string]string{
	"current_logfiles":   "names log files of the source",
	"backup_label.old":   "of an earlier backup, unused",
	"tablespace_map.old": "of an earlier backup, unused",
	"recovery.signal":    "whoever restores decides how to recover",
	"standby.signal":     "whoever restores decides how to recover",
}

// What we keep although pg_basebackup leaves it out.
var kept = map[string]string{
	"mine/postmaster.pid": "such names mean something at the top only",
	"mine/backup_label":   "such names mean something at the top only",
	"mine/pg_stat_tmp/x":  "such names mean something at the top only",
}

func TestExclusionsAreThoseOfBasebackup(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Distro: true, Conf: map[string]string{
		"autovacuum": "off", "max_prepared_transactions": "5",
	}})
	tablespace := pgtest.Dir(t)
	c.Exec(t,
		"CREATE TABLESPACE away LOCATION '"+tablespace+"'",
		"CREATE TABLE plain (id serial PRIMARY KEY, note text)",
		"INSERT INTO plain (note) SELECT md5(i::text) FROM generate_series(1, 1000) i",
		"CREATE UNLOGGED TABLE unlogged (LIKE plain INCLUDING ALL)",
		"INSERT INTO unlogged SELECT * FROM plain",
		"CREATE UNLOGGED TABLE unlogged_away (id int PRIMARY KEY, note text) TABLESPACE away",
		"INSERT INTO unlogged_away SELECT id, note FROM plain",
		"CREATE TABLE away TABLESPACE away AS SELECT * FROM plain",
		"SELECT pg_create_physical_replication_slot('slot', true)",
		"VACUUM",
	)
	session := c.Connect(t)
	for _, sql := range []string{
		"CREATE TEMP TABLE temporary AS SELECT * FROM plain",
		"CREATE TEMP TABLE temporary_away TABLESPACE away AS SELECT * FROM plain",
		"CREATE INDEX ON temporary (id)",
		"LISTEN something",
		"CHECKPOINT",
	} {
		_, err := session.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	oid := pgtest.Value[string](t, c, "SELECT oid::text FROM pg_tablespace WHERE spcname = 'away'")
	version, err := os.ReadDir(tablespace)
	require.NoError(t, err)
	require.Len(t, version, 1)
	inTablespace := "pg_tblspc/" + oid + "/" + version[0].Name() + "/"
	db := "base/" + pgtest.Value[string](t, c, "SELECT oid::text FROM pg_database WHERE datname = 'postgres'") + "/"
	for _, file := range []string{
		"base/pgsql_tmp/pgsql_tmp123.0", "base/pgsql_tmp/pgsql_tmp123.0.sharedfileset/x.0", db + "pgsql_tmp_x",
		inTablespace + "pgsql_tmp/pgsql_tmp5.1", "mine/pgsql_tmp_x",
		"current_logfiles", "current_logfiles.tmp", "postgresql.auto.conf.tmp", "backup_label", "backup_label.old", "tablespace_map", "tablespace_map.old",
		"backup_manifest", "recovery.signal", "standby.signal", "global/pg_internal.init.4711", db + "pg_internal.init.4711",
		"pg_stat_tmp/global.stat", "pg_dynshmem/mmap.1", "pg_snapshots/00000003-0000001B-1", "pg_serial/0000", "pg_notify/0001",
		db + "t99_16384", db + "t99_16384_fsm", inTablespace + path.Base(db) + "/t99_16384.1",
		db + "junk", db + "16384x", "mine/pg_stat_tmp/x", "mine/pg_wal/x", "mine/postmaster.pid", "mine/backup_label", "mine/t3_16384",
	} {
		full := filepath.Join(c.Data, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(t, os.WriteFile(full, []byte("x"), 0o644))
	}
	pgtest.Own(t, c.Data)

	copied := filepath.Join(pgtest.Dir(t), "copy")
	pgtest.Run(t, c.Bin(t, "pg_basebackup"), "--pgdata="+copied, "--dbname="+c.DSN("postgres"), "--checkpoint=fast",
		"--wal-method=none", "--no-sync", "--tablespace-mapping="+tablespace+"="+pgtest.Dir(t))
	theirs := tree(t, copied, func(string, map[string]bool) bool { return true })
	for _, written := range []string{"backup_label", "backup_manifest", "pg_wal/archive_status"} { // into every copy
		require.True(t, theirs[written], written)
		delete(theirs, written)
	}
	ours := tree(t, c.Data, weKeep)

	require.Equal(t, slices.Sorted(maps.Keys(kept)), missing(ours, theirs), "what only we keep")
	require.Equal(t, slices.Sorted(maps.Keys(beyond)), missing(theirs, ours), "what only pg_basebackup keeps")
	require.True(t, ours["pg_replslot"])
	require.False(t, ours["pg_replslot/slot"])
	require.True(t, ours[inTablespace+path.Base(db)])
	require.True(t, ours[db+"junk"])
}

// missing returns what is in one and not in the other, in order.
func missing(one, other map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(one)), func(p string) bool { return other[p] })
}

// weKeep tells whether our rules keep a path; all are the paths beside it.
func weKeep(p string, all map[string]bool) bool {
	if pgfile.FileExcluded(p) || pgfile.ContentExcluded(path.Dir(p)) {
		return false
	}
	r, ok := pgfile.ParseRelation(p)
	if !ok || r.Fork == "init" {
		return true
	}
	name, _, _ := strings.Cut(path.Base(p), ".")
	name, _, _ = strings.Cut(name, "_")
	return !all[path.Join(path.Dir(p), name+"_init")]
}

// tree lists the files and directories below a data directory, into its tablespaces, that are kept.
func tree(t *testing.T, pgdata string, keep func(p string, beside map[string]bool) bool) map[string]bool {
	t.Helper()
	list := map[string]bool{}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := os.ReadDir(filepath.Join(pgdata, dir))
		require.NoError(t, err)
		beside := map[string]bool{}
		for _, e := range entries {
			beside[path.Join(dir, e.Name())] = true
		}
		for _, e := range entries {
			p := path.Join(dir, e.Name())
			if !keep(p, beside) {
				continue
			}
			list[p] = true
			if e.IsDir() || e.Type() == fs.ModeSymlink {
				walk(p)
			}
		}
	}
	walk("")
	return list
}
