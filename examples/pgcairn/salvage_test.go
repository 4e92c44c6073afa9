package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestSalvage brings a dropped table back by the program alone, from an encrypted repository, to a file and to stdout.
func TestSalvage(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, &pgtest.Options{Major: pgtest.DistroMajor(t), Distro: true})
	c.Exec(t, `create database shop`)
	c.ExecIn(t, "shop", `create table orders as select i, md5(i::text) as note from generate_series(1, 200) i`, `create table other as select * from orders`)
	h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--pgdata", c.Data)
	c.ExecIn(t, "shop", `insert into orders select i from generate_series(201, 300) i`, `select pg_create_restore_point('there')`, `drop table orders`)
	archiveAll(t, c)

	reader := h.reader().with("PGHOST=/nonexistent", "PGUSER=x", "PGOPTIONS=--nonsense=1", "PGDATABASE=nowhere")
	dump, scratch := filepath.Join(h.dir, "orders.dump"), filepath.Join(h.dir, "scratch")
	args := func(output string, more ...string) []string {
		return append([]string{"salvage", "shop", "--pgbin", filepath.Dir(pgtest.DistroBin(t, "postgres")), "--scratch", scratch, "--output", output}, more...)
	}
	restored := func(dump string) int64 {
		c.Exec(t, `drop database if exists back`, `create database back`)
		out, err := exec.CommandContext(t.Context(), pgtest.DistroBin(t, "pg_restore"), "--exit-on-error", "--dbname", c.DSN("back"), dump).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return pgtest.ValueIn[int64](t, c, "back", `select count(*) from orders`)
	}

	d := reader.json(t, args(dump, "public.orders", "--to-name", "there")...)
	requireKeys(t, d, "plan", "tables", "fetched_bytes", "restored_bytes", "restore_seconds", "recovery_seconds", "duration_seconds", "ok")
	require.Equal(t, true, d["ok"])
	require.Positive(t, d["fetched_bytes"])
	table := d["tables"].([]any)[0].(map[string]any)
	require.Equal(t, "orders", table["name"])
	require.EqualValues(t, 300, table["rows"])
	require.EqualValues(t, 300, restored(dump))
	require.NoDirExists(t, scratch)

	out := reader.run(t, args(dump, "public.orders")...)
	out.requireFailure(t, 1, "file exists", "")

	out = reader.run(t, args("-", "public.orders", "--to-immediate")...)
	require.Equal(t, 0, out.code, out.stderr)
	require.Contains(t, out.stderr, "salvage: ok\n")
	require.Equal(t, "PGDMP", out.stdout[:5])

	other := filepath.Join(h.dir, "other.dump")
	out = reader.run(t, args(other, "public.orders")...)
	require.Contains(t, out.stdout, "salvage: FAILED, phase tables: ")
	out.requireFailureSays(t, "it is in the backup, and not there at the target", "names as they are at the target")
	require.NoFileExists(t, other)
	require.NoDirExists(t, scratch)
}
