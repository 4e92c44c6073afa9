package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestDrill drills by the program alone, with an encrypted repository: what works, and what does not, with the exit code
// and the report saying which.
func TestDrill(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	c.Exec(t, `create database shop`)
	c.ExecIn(t, "shop", `create table orders as select i from generate_series(1, 200) i`)
	h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--pgdata", c.Data)
	c.ExecIn(t, "shop", `insert into orders select i from generate_series(201, 300) i`)
	archiveAll(t, c)

	bin := pgtest.BinDir(t, c.Major)
	reader := h.reader().with("PGHOST=/nonexistent", "PGUSER=x", "PGOPTIONS=--nonsense=1", "PGDATABASE=shop")
	scratch := filepath.Join(h.dir, "scratch")
	args := func(more ...string) []string {
		return append([]string{"drill", "--pgbin", bin, "--scratch", scratch}, more...)
	}
	const yes, many = "select count(*) = 300 from orders", "select i, false from orders where i > 1"

	d := reader.json(t, args("--check", yes, "--check", many, "--amcheck", "heap-all-indexed")...)
	requireKeys(t, d, "plan", "recovered_to", "checks", "restore_seconds", "recovery_seconds", "ok")
	require.Equal(t, true, d["ok"])
	require.Equal(t, true, d["plan"].(map[string]any)["reachable"])
	requireKeys(t, d["recovered_to"].(map[string]any), "lsn", "time")
	checks := d["checks"].([]any)
	require.Len(t, checks, 2+3)
	require.Equal(t, yes, checks[0].(map[string]any)["sql"])
	require.EqualValues(t, 1, checks[0].(map[string]any)["rows"])
	require.EqualValues(t, 299, checks[1].(map[string]any)["rows"])
	require.Equal(t, true, checks[1].(map[string]any)["ok"])
	require.NoDirExists(t, scratch)
	receipts, err := filepath.Glob(filepath.Join(h.repo, "receipts", "drill", "*"))
	require.NoError(t, err)
	require.Len(t, receipts, 1)

	text := reader.ok(t, args("--random", "backup", "--check", "select count(*) = 200 from orders")...)
	require.Contains(t, text, "drill: ok\n")
	reader.ok(t, args("--random", "moment")...)
	reader.ok(t, args("--to-immediate", "--progress", "none")...)

	out := reader.with("PGSERVICE=no_such_service").run(t, args()...)
	require.Equal(t, 1, out.code)
	require.Contains(t, out.stdout, "drill: FAILED, phase plan: ")
	require.Contains(t, out.stderr, "service")

	for _, w := range []struct {
		name, phase   string
		damage        func()
		args          []string
		problem, hint string
	}{
		{
			name: "a check that is not so", phase: "check", args: []string{"--check", "select 1", "--check", "select count(*) > 300 from orders"},
			problem: "1 of 2 checks failed", hint: "report",
		},
		{name: "no target", phase: "plan", args: []string{"--to-time", "2001-01-01T00:00:00Z"}, problem: "every backup ended after", hint: "pgcairn list"},
		{name: "no such restore point", phase: "plan", args: []string{"--to-name", "x"}, problem: "there is no restore point of that name", hint: "pgcairn list"},
		{name: "no boot", phase: "recovery", args: []string{"--preload", "no_such_library"}, problem: "no_such_library", hint: "log"},
		{name: "no programs", phase: "plan", args: []string{"--pgbin", "/nonexistent"}, problem: "needs PostgreSQL", hint: "--pgbin"},
		{name: "a user", phase: "plan", args: []string{"--os-user", "root"}, problem: "root", hint: "--os-user"},
		{
			name: "a directory with something in it", phase: "restore", args: []string{"--scratch", h.repo},
			problem: "is not empty", hint: "choose another directory",
		},
		{
			name: "a corrupted pack", phase: "restore", problem: "corrupt object packs/", hint: "damaged",
			damage: func() {
				packs, err := filepath.Glob(filepath.Join(h.repo, "packs", "*", "*"))
				require.NoError(t, err)
				flip(t, packs[0])
			},
		},
	} {
		t.Run(w.name, func(t *testing.T) {
			if w.damage != nil {
				w.damage()
			}
			out := reader.run(t, args(append(w.args, "--json")...)...)
			doc := parseJSON(t, out.stdout)
			require.Equal(t, false, doc["ok"])
			require.Equal(t, w.phase, doc["phase"])
			require.Contains(t, doc["problem"], w.problem)
			out.stdout = ""
			out.requireFailure(t, 1, "drill: "+w.phase+": ", w.hint)
			require.NoDirExists(t, scratch)
		})
	}
}

// TestDrillAsRoot runs the program as the user who runs the tests: for root, the server runs as another.
func TestDrillAsRoot(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--pgdata", c.Data)
	scratch := filepath.Join(h.dir, "scratch")
	drill := func(more ...string) outcome {
		cmd := exec.CommandContext(t.Context(), program, append([]string{"drill", "--json", "--pgbin", pgtest.BinDir(t, c.Major), "--scratch", scratch}, more...)...)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, h.reader().env...)
		return runCommand(t, cmd)
	}
	var as []string
	if os.Geteuid() == 0 {
		out := drill()
		require.Equal(t, "plan", parseJSON(t, out.stdout)["phase"])
		out.stdout = ""
		out.requireFailure(t, 1, "PostgreSQL does not run as root", "--os-user")
		as = []string{"--os-user", strings.TrimSpace(pgtest.Run(t, "id", "-un"))}
	}
	out := drill(as...)
	require.Zero(t, out.code, out.stderr)
	require.Equal(t, true, parseJSON(t, out.stdout)["ok"])
	require.NoDirExists(t, scratch)
}

// TestDrillInterrupted ends a drill by a signal, while the server is asked.
func TestDrillInterrupted(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--pgdata", c.Data)
	scratch := filepath.Join(h.dir, "scratch")
	begun := filepath.Join(h.dir, "begun")
	cmd := h.reader().command(t, "drill", "--pgbin", pgtest.BinDir(t, c.Major), "--scratch", scratch,
		"--check", "copy (select 1) to '"+begun+"'", "--check", "select pg_sleep(1000)")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { _, err := os.Stat(begun); return err == nil }, patience, pollEvery, stderr.String)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, stderr.String(), "interrupt signal received")
	require.NoDirExists(t, scratch)
}
