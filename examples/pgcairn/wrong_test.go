package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestWrongInputs: each has an error that says what is wrong, a hint at what can be done, and exit code 1.
func TestWrongInputs(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	near := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	near.ok(t, "check") // and so the repository is this cluster's
	c.Exec(t, `create role weak login`)

	foreign := pgtest.New(t, nil)
	stray := filepath.Join(foreign.Data, "pg_wal", "000000010000000000000001")
	silent := pgtest.New(t, &pgtest.Options{Conf: map[string]string{"archive_mode": "on"}})
	plain := newHost(t)
	plain.ok(t, "init")
	conflicting := filepath.Join(pgtest.Dir(t), "000000010000000000000001")
	copySegment(t, find(t, filepath.Join(c.Data, "pg_wal"), "000000010000000000000001"), conflicting)
	occupied := pgtest.Dir(t)
	require.NoError(t, os.WriteFile(filepath.Join(occupied, "x"), nil, 0o644))
	short := filepath.Join(pgtest.Dir(t), "000000010000000000000002")
	require.NoError(t, os.WriteFile(short, []byte("short"), 0o644))

	back := func(args ...string) []string { return append([]string{"backup", "--pgdata", c.Data}, args...) }
	for _, w := range []struct {
		name    string
		prepare func(t *testing.T)
		host    *host
		args    []string
		problem string
		hint    string
	}{
		{name: "no such repository", host: near.with("PGCAIRN_REPO=/nonexistent/repo"), args: back(), problem: "no pgcairn repository here", hint: "pgcairn init"},
		{name: "no such repository for push", host: near.with("PGCAIRN_REPO=/nonexistent/repo"), args: []string{"wal", "push", short}, problem: "no pgcairn repository here", hint: "pgcairn init"},
		{name: "no such repository for list", host: near.with("PGCAIRN_REPO=/nonexistent/repo"), args: []string{"list"}, problem: "no pgcairn repository here", hint: "pgcairn init"},
		{name: "no repository in the directory", host: near.with("PGCAIRN_REPO=" + occupied), args: []string{"list"}, problem: "no pgcairn repository here", hint: "pgcairn init"},
		{name: "not a data directory", args: []string{"backup", "--pgdata", occupied}, problem: "it is not a data directory", hint: "--pgdata"},
		{name: "no directory", args: []string{"backup", "--pgdata", "/nonexistent"}, problem: "there is no such directory", hint: "--pgdata"},
		{name: "another server's data directory", args: []string{"backup", "--pgdata", foreign.Data}, problem: "system identifier", hint: "--pgdata"},
		{name: "server down", args: back("--dsn", "host="+occupied), problem: "connect to the server", hint: "is the server running"},
		{name: "server down, checked", args: []string{"check", "--dsn", "host=" + occupied}, problem: "connect to the server", hint: "is the server running"},
		{name: "malformed DSN", args: back("--dsn", "host=x port=many"), problem: "port", hint: "DSN"},
		{name: "a role without privileges", args: back("--dsn", "user=weak dbname=postgres"), problem: "permission denied", hint: "role"},
		{
			name: "a data directory that may not be read", args: back(), problem: "permission denied", hint: "user",
			prepare: func(t *testing.T) { chmod(t, filepath.Join(c.Data, "PG_VERSION"), 0) },
		},
		{
			name: "a repository that may not be read", args: back(), problem: "permission denied", hint: "user",
			prepare: func(t *testing.T) { chmod(t, h.repo, 0) },
		},
		{
			name: "a repository that may not be written", args: back(), problem: "permission denied", hint: "user",
			prepare: func(t *testing.T) {
				leases := filepath.Join(h.repo, "leases", "backup")
				require.NoError(t, os.MkdirAll(leases, 0o700))
				pgtest.Own(t, filepath.Dir(leases))
				chmod(t, leases, 0o500)
			},
		},
		{name: "a segment of another cluster", args: []string{"wal", "push", stray}, problem: "system identifier", hint: "repository of its own"},
		{name: "a segment that is not there", args: []string{"wal", "push", "/nonexistent/000000010000000000000009"}, problem: "no such file"},
		{name: "a backup of another cluster", args: []string{"backup", "--pgdata", foreign.Data, "--dsn", foreign.DSN("postgres")}, problem: "system identifier", hint: "repository of its own"},
		{name: "other content under a name", args: []string{"wal", "push", conflicting}, problem: "archived already with other content", hint: "only one server"},
		{name: "a short segment", args: []string{"wal", "push", short}, problem: "only 5 bytes", hint: "%p"},
		{name: "no segment", args: []string{"wal", "push", filepath.Join(c.Data, "PG_VERSION")}, problem: "not the name of a WAL file", hint: "%p"},
		{
			name: "clock set back", args: back(), problem: "the clock says", hint: "clock",
			prepare: func(t *testing.T) {
				// As the newest backup's ID tells when it was begun, one from the future is what a clock set back looks like.
				require.NoError(t, os.MkdirAll(filepath.Join(h.repo, "backups"), 0o700))
				future := filepath.Join(h.repo, "backups", "29991231T235959Z-abcdef")
				require.NoError(t, os.WriteFile(future, nil, 0o600))
				pgtest.Own(t, filepath.Join(h.repo, "backups"))
				t.Cleanup(func() { require.NoError(t, os.Remove(future)) })
			},
		},
		{
			name: "an unknown format", args: back(), problem: "format 2 is unknown", hint: "newer version",
			prepare: func(t *testing.T) { edit(t, filepath.Join(h.repo, "pgcairn.json"), `"format":1`, `"format":2`) },
		},
		{
			name: "a damaged marker", args: back(), problem: "corrupt object pgcairn.json", hint: "damaged",
			prepare: func(t *testing.T) { edit(t, filepath.Join(h.repo, "pgcairn.json"), `"format":1`, `"format":0`) },
		},
		{name: "an encrypted repository without recipients", host: h.with("PGHOST="+c.Socket, "PGUSER=postgres"), args: back(), problem: "encrypted", hint: "--recipient"},
		{name: "an identity only", host: h.reader().with("PGHOST="+c.Socket, "PGUSER=postgres"), args: back(), problem: "no recipients", hint: "--recipient"},
		{name: "recipients for a repository that is not encrypted", host: near.with("PGCAIRN_REPO=" + plain.repo), args: back(), problem: "not encrypted", hint: "leave out"},
		{name: "no such backup", args: []string{"show", "20261121T101530Z-9f3c2a"}, problem: "20261121T101530Z-9f3c2a", hint: "pgcairn list"},
		{name: "a setting that is missing", args: []string{"check", "--dsn", silent.DSN("postgres")}, host: plain, problem: "archive_command", hint: "ALTER SYSTEM"},
		{name: "no backup to restore", args: []string{"restore", filepath.Join(h.dir, "new")}, host: h.reader(), problem: "there is no backup", hint: "pgcairn list"},
	} {
		t.Run(w.name, func(t *testing.T) {
			if w.prepare != nil {
				w.prepare(t)
			}
			if w.host == nil {
				w.host = near
			}
			out := w.host.run(t, w.args...)
			if w.args[0] == "check" {
				require.Contains(t, out.stdout, "FAILED")
				out.stdout = ""
			}
			out.requireFailure(t, 1, w.problem, w.hint)
		})
	}
	requireNothingLeft(t, h, c)
}

// requireNothingLeft makes sure that no backup is listed, that the next can begin, and that the server is done with it.
func requireNothingLeft(t *testing.T, h *host, c *pgtest.Cluster) {
	t.Helper()
	require.Empty(t, h.reader().json(t, "list")["backups"])
	requireServerIdle(t, c)
	host := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	require.NotEmpty(t, host.json(t, "backup", "--pgdata", c.Data)["id"])
}

// requireServerIdle makes sure that no backup is in progress on a server, and nothing of one is left there.
func requireServerIdle(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	require.Eventually(t, func() bool {
		return pgtest.Value[int](t, c, `select count(*)::int from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`) == 0 &&
			pgtest.Value[int](t, c, `select count(*)::int from pg_replication_slots`) == 0
	}, patience, pollEvery)
	require.NoFileExists(t, filepath.Join(c.Data, "backup_label"))
}

// copySegment copies a segment with another content behind its header.
func copySegment(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	copy(b[100:], strings.Repeat("other", 10))
	require.NoError(t, os.WriteFile(to, b, 0o644))
}
