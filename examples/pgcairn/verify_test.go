package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVerify verifies by the program alone: what is sound, what is damaged, and what a host that only writes can tell.
func TestVerify(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--pgdata", c.Data)
	c.Exec(t, `create table later ()`)
	archiveAll(t, c)
	backups := h.reader().json(t, "list")["backups"].([]any)
	id := backups[0].(map[string]any)["id"].(string)

	doc := h.reader().json(t, "verify")
	requireKeys(t, doc, "objects", "bytes", "problems")
	require.Equal(t, true, doc["ok"])
	require.Empty(t, doc["problems"])
	require.Zero(t, doc["read_bytes"])
	doc = h.reader().json(t, "verify", id, "--read-data", "--max-age", "0", "--jobs", "2", "--rate", "1000000000")
	require.Positive(t, doc["read_bytes"])
	require.Contains(t, h.writer().ok(t, "verify", "--read-data"), "no identity")
	require.Positive(t, h.reader().json(t, "verify", "--read-data")["skipped_objects"], "which host has read it does not matter")
	shown := h.reader().run(t, "verify", "--read-data", "--progress", "plain") // which may have time to show something
	require.Zero(t, shown.code, shown.stderr)
	require.Contains(t, shown.stdout, "verify: ok\n")
	h.reader().run(t, "verify", "20000101T000000Z-000000").requireFailure(t, 1, "20000101T000000Z-000000", "pgcairn list")
	h.reader().run(t, "verify", "nonsense").requireFailure(t, 2, "not the ID of a backup", "")

	packs, err := filepath.Glob(filepath.Join(h.repo, "packs", "*", "*"))
	require.NoError(t, err)
	flip(t, packs[0])
	out := h.reader().run(t, "verify", "--read-data", "--max-age", "0", "--json")
	doc = parseJSON(t, out.stdout)
	problem := doc["problems"].([]any)[0].(map[string]any)
	requireKeys(t, problem, "key", "error", "backups", "spans")
	require.Equal(t, []any{id}, problem["backups"])
	out.stdout = ""
	out.requireFailure(t, 1, "verify: 1 problem", "report")

	require.NoError(t, os.Remove(packs[0]))
	out = h.reader().run(t, "verify")
	require.Equal(t, 1, out.code)
	require.Contains(t, out.stdout, "it is missing")
	require.Contains(t, out.stdout, "costs 1 backup: "+id)
}
