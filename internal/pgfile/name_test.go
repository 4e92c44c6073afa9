package pgfile_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

func TestParseRelation(t *testing.T) {
	for path, want := range map[string]pgfile.Relation{
		"global/1262":                              {Tablespace: 1664, Number: 1262, Fork: "main"},
		"global/1262_vm":                           {Tablespace: 1664, Number: 1262, Fork: "vm"},
		"base/5/16384":                             {Tablespace: 1663, Database: 5, Number: 16384, Fork: "main"},
		"base/5/16384.1":                           {Tablespace: 1663, Database: 5, Number: 16384, Fork: "main", Segment: 1},
		"base/5/16384_vm.1":                        {Tablespace: 1663, Database: 5, Number: 16384, Fork: "vm", Segment: 1},
		"base/5/16384_fsm":                         {Tablespace: 1663, Database: 5, Number: 16384, Fork: "fsm"},
		"base/5/16384_init":                        {Tablespace: 1663, Database: 5, Number: 16384, Fork: "init"},
		"base/5/16384_init.12":                     {Tablespace: 1663, Database: 5, Number: 16384, Fork: "init", Segment: 12},
		"base/5/4294967295":                        {Tablespace: 1663, Database: 5, Number: 4294967295, Fork: "main"},
		"base/5/t3_16384":                          {Tablespace: 1663, Database: 5, Number: 16384, Fork: "main", Temp: true},
		"base/5/t0_1_fsm":                          {Tablespace: 1663, Database: 5, Number: 1, Fork: "fsm", Temp: true},
		"base/5/t123_16384_vm.7":                   {Tablespace: 1663, Database: 5, Number: 16384, Fork: "vm", Segment: 7, Temp: true},
		"pg_tblspc/16400/PG_15_202209061/5/16384":  {Tablespace: 16400, Database: 5, Number: 16384, Fork: "main"},
		"pg_tblspc/16400/PG_15_202209061/5/t1_2.3": {Tablespace: 16400, Database: 5, Number: 2, Fork: "main", Segment: 3, Temp: true},
	} {
		got, ok := pgfile.ParseRelation(path)
		require.True(t, ok, path)
		require.Equal(t, want, got, path)
	}
	for _, path := range []string{
		"", "/", "1262", "global", "global/", "/global/1262", "global/1262/", "global/x/1262", "./global/1262", "global//1262",
		"global/pg_control", "global/pg_filenode.map", "global/pg_internal.init", "base/5/PG_VERSION", "base/16384",
		"base/x/16384", "base/05/16384", "base/-5/16384", "base/5/6/16384",
		"base/5/0", "base/5/016384", "base/5/+16384", "base/5/-16384", "base/5/1_6384", "base/5/16 384", "base/5/4294967296",
		"base/5/16384.", "base/5/16384.0", "base/5/16384.01", "base/5/16384.1.1", "base/5/16384.-1", "base/5/16384.x",
		"base/5/16384_", "base/5/16384_main", "base/5/16384_vm_vm", "base/5/16384_VM", "base/5/16384.1_vm", "base/5/_vm",
		"base/5/t_16384", "base/5/t3", "base/5/t3_", "base/5/t3_x", "base/5/tx_16384", "base/5/t-3_16384", "base/5/t3_t4_16384",
		"base/pgsql_tmp/pgsql_tmp1.0", "base/5/pgsql_tmp/16384",
		"pg_tblspc/16400/5/16384", "pg_tblspc/16400/XX_15_1/5/16384", "pg_tblspc/x/PG_15_1/5/16384", "pg_tblspc/16400/PG_15_1/16384",
		"pg_wal/000000010000000000000001", "pg_xact/0000",
	} {
		_, ok := pgfile.ParseRelation(path)
		require.False(t, ok, path)
	}
}

func TestValidOID(t *testing.T) {
	for text, want := range map[string]bool{
		"1": true, "16400": true, "4294967295": true,
		"": false, "0": false, "00": false, "016400": false, "-1": false, "+1": false, "4294967296": false, "16400/": false, "..": false,
	} {
		require.Equal(t, want, pgfile.ValidOID(text), text)
	}
}

func TestExclusions(t *testing.T) {
	for dir, want := range map[string]bool{
		"pg_wal": true, "pg_replslot": true, "pg_dynshmem": true, "pg_notify": true, "pg_serial": true, "pg_snapshots": true,
		"pg_stat_tmp": true, "pg_subtrans": true,
		"": false, "base": false, "global": false, "pg_stat": false, "pg_xact": false, "pg_multixact": false, "pg_tblspc": false,
		"pg_logical": false, "pg_commit_ts": false, "pg_twophase": false, "log": false, "mine/pg_wal": false, "pg_wal/archive_status": false,
	} {
		require.Equal(t, want, pgfile.ContentExcluded(dir), dir)
	}
	for file, want := range map[string]bool{
		"postmaster.pid": true, "postmaster.opts": true, "current_logfiles": true, "current_logfiles.tmp": true,
		"postgresql.auto.conf.tmp": true, "backup_label": true, "backup_label.old": true, "tablespace_map": true,
		"tablespace_map.old": true, "backup_manifest": true, "recovery.signal": true, "standby.signal": true,
		"global/pg_internal.init": true, "base/5/pg_internal.init": true, "base/5/pg_internal.init.4711": true,
		"base/pgsql_tmp": true, "base/pgsql_tmp/pgsql_tmp1.0": true, "base/5/t3_16384": true, "base/5/t3_16384_fsm.1": true,
		"pg_tblspc/16400/PG_15_1/pgsql_tmp": true, "pg_tblspc/16400/PG_15_1/5/t1_2": true,
		"PG_VERSION": false, "postgresql.conf": false, "postgresql.auto.conf": false, "pg_hba.conf": false, "global/pg_control": false,
		"global/pg_filenode.map": false, "base/5/16384": false, "base/5/16384_init": false, "base/5/pg_filenode.map": false,
		"pg_xact/0000": false, "pg_twophase/0000000000000001": false, "mine/backup_label": false, "mine/t3_16384": false,
	} {
		require.Equal(t, want, pgfile.FileExcluded(file), file)
	}
}

func TestDatabaseOf(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]uint32{
		"base/5/16384_vm.1": 5, "base/16385/PG_VERSION": 16385, "pg_tblspc/16390/PG_18_202506291/7/pg_filenode.map": 7,
		"global/1262": 0, "PG_VERSION": 0, "base/x/1": 0, "base/pgsql_tmp/1": 0, "base/0/1": 0, "base/5": 0, "pg_tblspc/1/PG_18/PG_VERSION": 0, "": 0,
	} {
		got, ok := pgfile.DatabaseOf(p)
		require.Equal(t, want, got, p)
		require.Equal(t, want != 0, ok, p)
	}
}
