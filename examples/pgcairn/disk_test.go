package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestRepositoryDisk fills the disk of a repository, enlarges it, and makes it read-only. The disk is a small tmpfs,
// mounted in a name space of its own, which takes no root and goes away with the script whatever happens.
func TestRepositoryDisk(t *testing.T) {
	h := newHost(t)
	c := pgtest.New(t, nil)
	c.Exec(t, `create table ids as select gen_random_uuid() from generate_series(1, 100000)`)
	segment := keepSegment(t, c, h.dir)
	c.Exec(t, `create table more ()`)
	other := keepSegment(t, c, h.dir)
	mount, out := filepath.Join(h.dir, "disk"), t.TempDir()
	require.NoError(t, os.Mkdir(mount, 0o755))
	h = h.writer().with("PGCAIRN_REPO="+filepath.Join(mount, "repo"), "PGHOST="+c.Socket, "PGUSER=postgres")

	var script strings.Builder
	steps := 0
	do := func(args ...string) (result func(t *testing.T) outcome) {
		steps++
		n := filepath.Join(out, strconv.Itoa(steps))
		fmt.Fprintf(&script, "%s >%s.out 2>%s.err; echo $? >%s.code\n", quoteAll(append([]string{program}, args...)), n, n, n)
		return func(t *testing.T) outcome {
			t.Helper()
			code, err := strconv.Atoi(strings.TrimSpace(read(t, n+".code")))
			require.NoError(t, err)
			return outcome{code: code, stdout: read(t, n+".out"), stderr: read(t, n+".err")}
		}
	}
	mounted := func(options string) {
		fmt.Fprintf(&script, "mount -t tmpfs -o %s tmpfs %s || exit\n", options, quoteAll([]string{mount}))
	}
	list := []string{"list", "--json", "--identity", h.identity}
	backup := []string{"backup", "--pgdata", c.Data, "--json"}

	mounted("size=1m")
	initialized := do("init")
	full := do(backup...)
	afterFull := do(list...)
	fullPush := do("wal", "push", segment)
	mounted("remount,size=200m")
	again := do(backup...)
	afterAgain := do(list...)
	mounted("remount,ro")
	readOnly := do(backup...)
	readOnlyPush := do("wal", "push", other)
	afterReadOnly := do(list...)

	space := []string{"--mount"}
	if os.Geteuid() != 0 {
		space = append(space, "--map-root-user")
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(space, "sh")...)
	cmd.Stdin = strings.NewReader(script.String())
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, h.env...)
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	require.Empty(t, string(text))

	require.Zero(t, initialized(t).code, initialized(t).stderr)
	full(t).requireFailure(t, 1, "no space left on device", "the disk is full")
	require.Empty(t, parseJSON(t, afterFull(t).stdout)["backups"])
	fullPush(t).requireFailure(t, 1, "no space left on device", "the disk is full")
	require.Zero(t, again(t).code, again(t).stderr)
	id := parseJSON(t, again(t).stdout)["id"]
	readOnly(t).requireFailure(t, 1, "read-only file system", "the file system is read-only")
	readOnlyPush(t).requireFailure(t, 1, "read-only file system", "the file system is read-only")
	for _, listed := range []func(*testing.T) outcome{afterAgain, afterReadOnly} {
		backups := parseJSON(t, listed(t).stdout)["backups"].([]any)
		require.Len(t, backups, 1)
		require.Equal(t, id, backups[0].(map[string]any)["id"])
	}
	requireServerIdle(t, c)
}

// keepSegment has a server complete its segment, and returns the path of a copy of it.
func keepSegment(t *testing.T, c *pgtest.Cluster, dir string) string {
	t.Helper()
	name := pgtest.SwitchWAL(t, c)
	segment := read(t, filepath.Join(c.Data, "pg_wal", name))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(segment), 0o644))
	return filepath.Join(dir, name)
}

func quoteAll(args []string) string {
	for i, a := range args {
		args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(args, " ")
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}
