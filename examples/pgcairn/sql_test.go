package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestBackupBySQL backs up without access to the data directory, as a role that check has found fit for it.
func TestBackupBySQL(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	c.Exec(t, `create table kept as select i, md5(i::text) from generate_series(1, 5000) i`, `create role backup login`,
		`grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal() to backup`)
	far := h.writer().with("PGHOST="+c.Socket, "PGUSER=backup", "PGDATABASE=postgres")

	far.ok(t, "check")
	out := far.run(t, "check", "--source", "sql")
	require.Contains(t, out.stdout, "role     FAILED")
	out.stdout = ""
	out.requireFailure(t, 1, `GRANT EXECUTE ON FUNCTION pg_ls_dir`, "execute that GRANT")
	out = far.run(t, "backup")
	out.requireFailure(t, 1, `GRANT EXECUTE ON FUNCTION pg_ls_dir`, "execute that GRANT")
	requireServerIdle(t, c)
	_, grant, ok := strings.Cut(strings.Split(out.stderr, "\n")[0], "it takes ")
	require.True(t, ok)
	c.Exec(t, grant)

	require.Equal(t, true, far.with("PGCAIRN_SOURCE=sql").json(t, "check")["ok"])
	b := far.json(t, "backup")
	require.Equal(t, b["id"], h.reader().json(t, "show", b["id"].(string))["id"])
	require.NotEmpty(t, far.json(t, "backup", "--source", "sql", "--pgdata", "/nonexistent", "--jobs", "6")["id"], "which is not looked at")
	requireServerIdle(t, c)
	want := pgtest.Checksums(t, c)
	archiveAll(t, c)

	dir := filepath.Join(pgtest.Dir(t), "data")
	h.reader().ok(t, "restore", dir)
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)))
}
