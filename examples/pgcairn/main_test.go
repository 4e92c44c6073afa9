package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// program is the path of the program under test, where the user that servers run as can reach it.
var program string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("/tmp", "pgcairn")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "pgcairn")
	err = errors.Join(
		buildProgram("-o", program),
		buildProgram("-o", filepath.Join(dir, companion), "-tags", "cloud"),
		os.Chmod(dir, 0o755),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func buildProgram(args ...string) error {
	args = append(append([]string{"build"}, buildFlags...), args...)
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// host is where the program is run: by the user that servers run as, in an environment of its own.
type host struct {
	dir       string // a scratch directory
	repo      string
	identity  string // file
	recipient string
	env       []string
}

// newHost makes a host with a key, but without a repository.
func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{dir: pgtest.Dir(t), env: programEnv}
	h.repo, h.identity = filepath.Join(h.dir, "repo"), filepath.Join(h.dir, "identity.txt")
	key := h.json(t, "key", "generate")
	h.recipient = key["recipient"].(string)
	require.NoError(t, os.WriteFile(h.identity, []byte(key["identity"].(string)+"\n"), 0o644))
	return h.with("PGCAIRN_REPO="+h.repo, "PGCAIRN_STATE_DIR="+filepath.Join(h.dir, "state"), "PGCAIRN_RETRY_FOR=0s")
}

// with returns the same host with more environment variables.
func (h *host) with(env ...string) *host {
	other := *h
	other.env = append(append([]string{}, h.env...), env...)
	return &other
}

// writer is the host as a database host is: with the recipient only.
func (h *host) writer() *host { return h.with("PGCAIRN_RECIPIENTS=" + h.recipient) }

// reader is the host as one to restore on is.
func (h *host) reader() *host { return h.with("PGCAIRN_IDENTITY=" + h.identity) }

// command prepares a run of the program.
func (h *host) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := pgtest.Command(t, program, args...)
	cmd.Env = append(cmd.Env, h.env...)
	return cmd
}

// outcome is how a run of the program ended.
type outcome struct {
	code           int
	stdout, stderr string
}

func (h *host) run(t *testing.T, args ...string) outcome {
	t.Helper()
	return runCommand(t, h.command(t, args...))
}

func runCommand(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// ok runs the program, which must succeed without a word on stderr, and returns what it printed.
func (h *host) ok(t *testing.T, args ...string) string {
	t.Helper()
	out := h.run(t, args...)
	require.Zero(t, out.code, "%s: %s", args, out.stderr)
	require.Empty(t, out.stderr, "%s", args)
	return out.stdout
}

// json runs the program, which must succeed, with --json.
func (h *host) json(t *testing.T, args ...string) map[string]any {
	t.Helper()
	return parseJSON(t, h.ok(t, append(args, "--json")...))
}

// parseJSON parses stdout, which must be one JSON document and nothing else.
func parseJSON(t *testing.T, stdout string) map[string]any {
	t.Helper()
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &doc), "%s", stdout)
	return doc
}

// requireFailure checks the form of a failure: an exit code, nothing on stdout, and on stderr one line that says what is
// wrong and, unless hint is empty, another that says what can be done.
func (o outcome) requireFailure(t *testing.T, code int, problem, hint string) {
	t.Helper()
	require.Equal(t, code, o.code, "%s", o.stderr)
	require.Empty(t, o.stdout)
	lines := strings.Split(strings.TrimSuffix(o.stderr, "\n"), "\n")
	require.True(t, strings.HasPrefix(lines[0], "pgcairn: "), "%s", o.stderr)
	require.Contains(t, lines[0], problem)
	if hint == "" {
		require.Len(t, lines, 1, "%s", o.stderr)
		return
	}
	require.Len(t, lines, 2, "%s", o.stderr)
	require.True(t, strings.HasPrefix(lines[1], "hint: "), "%s", o.stderr)
	require.Contains(t, lines[1], hint)
}

// newCluster makes a cluster that archives into a host's repository by the program.
func newCluster(t *testing.T, h *host, o *pgtest.Options) *pgtest.Cluster {
	t.Helper()
	if o == nil {
		o = &pgtest.Options{}
	}
	o.Conf = map[string]string{"archive_mode": "on", "archive_command": program + " wal push %p"}
	o.Env = h.writer().env
	return pgtest.New(t, o)
}

// archiveAll has a cluster complete its segment, and waits until all is archived.
func archiveAll(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	last := pgtest.SwitchWAL(t, c)
	require.Eventually(t, func() bool {
		return pgtest.Value[bool](t, c, `select coalesce(last_archived_wal, '') >= $1
			and not exists (select from pg_ls_archive_statusdir() where name like '%.ready') from pg_stat_archiver`, last)
	}, patience, pollEvery, "%s is not archived:\n%s", last, c.Log(t))
}
