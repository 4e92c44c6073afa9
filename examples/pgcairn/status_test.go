package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/stretchr/testify/require"
)

// The gate: exit 1 and the same document when something is wrong.
func TestStatus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	status := func(args ...string) outcome {
		cmd := exec.Command(program, append([]string{"status", "--repo", dir, "--state-dir", t.TempDir()}, args...)...)
		cmd.Env = programEnv
		return runCommand(t, cmd)
	}
	out := status("--json")
	require.Equal(t, exitFailed, out.code)
	require.Empty(t, out.stdout, "no repository is no status")
	require.Contains(t, out.stderr, "no pgcairn repository")

	store, err := repo.OpenDir(dir, nil)
	require.NoError(t, err)
	c := backuptest.New(nil)
	r, err := repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	out = status("--json")
	require.Equal(t, exitFailed, out.code)
	require.Contains(t, out.stderr, "the repository has a problem")
	doc := parseJSON(t, out.stdout)
	require.Equal(t, false, doc["ok"])
	require.Nil(t, doc["newest_backup"])

	m, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	out = status("--json", "--max-wal-lag", "1h")
	require.Zero(t, out.code, out.stderr)
	doc = parseJSON(t, out.stdout)
	requireKeys(t, doc, "ok", "newest_backup", "wal", "windows", "last_verify", "last_drill", "stored_bytes", "problems", "leases", "space", "growth")
	require.Equal(t, true, doc["ok"])
	require.Equal(t, string(m.ID), doc["newest_backup"].(map[string]any)["id"])
	requireKeys(t, doc["newest_backup"].(map[string]any), "age_seconds")
	requireKeys(t, doc["wal"].(map[string]any), "lag_seconds", "gaps")
	require.Contains(t, status().stdout, "newest backup: "+string(m.ID))

	// The clock of the cluster is of January.
	out = status("--max-backup-age", "24h", "--max-verify-age", "24h")
	require.Equal(t, exitFailed, out.code)
	require.Contains(t, out.stdout, "problem: the newest backup, "+string(m.ID))
	require.Contains(t, out.stdout, "problem: it was never verified")
	status("--max-backup-age=-1h").requireFailure(t, exitUsage, "26h", "")
}
