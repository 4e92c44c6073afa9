package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// receiver is a `wal receive` that runs.
type receiver struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func startReceiver(t *testing.T, h *host, args ...string) *receiver {
	t.Helper()
	r := &receiver{cmd: h.command(t, append([]string{"wal", "receive", "--json"}, args...)...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	require.NoError(t, r.cmd.Start())
	return r
}

// TestWALReceive archives by streaming alone, on a host that cannot read what it writes. The receiver is killed in the
// middle of a segment, another goes on and is told to end, and recovery by restore_command and by staged WAL has all.
func TestWALReceive(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := pgtest.New(t, nil)
	near := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	caughtUp := func(r *receiver) {
		t.Helper()
		at := pgtest.Value[string](t, c, `select pg_current_wal_flush_lsn()::text`)
		require.Eventually(t, func() bool {
			return pgtest.Value[bool](t, c, `select exists (select from pg_stat_replication
				where application_name = 'pgcairn' and flush_lsn >= $1::text::pg_lsn)`, at)
		}, patience, pollEvery, "%s", c.Log(t))
	}

	near.run(t, "wal", "receive", "--slot", "missing").requireFailure(t, 1, "does not exist", "--create-slot")
	near.run(t, "wal", "receive", "--slot", "No-Slot").requireFailure(t, 1, "lower-case", "")
	near.run(t, "wal", "receive", "--create-slot").requireFailure(t, 2, "needs --slot", "")

	args := []string{"--slot", "cairn", "--create-slot", "--flush-every", "50ms"}
	r := startReceiver(t, near, args...)
	near.ok(t, "backup", "--pgdata", c.Data)
	c.Exec(t, `create table t as select i, md5(i::text) from generate_series(1, 1000) i`)
	caughtUp(r)
	require.NoError(t, r.cmd.Process.Kill())
	_ = r.cmd.Wait()
	c.Exec(t, `insert into t select i, md5(i::text) from generate_series(1, 200000) i`)

	r = startReceiver(t, near, args...)
	c.Exec(t, `insert into t select i, md5(i::text) from generate_series(1, 1000) i`)
	want := pgtest.Checksums(t, c)
	caughtUp(r)
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, r.cmd.Wait(), r.stderr.String())
	doc := parseJSON(t, r.stdout.String())
	requireKeys(t, doc, "timeline", "received_lsn", "durable_lsn", "segments")
	require.Equal(t, doc["received_lsn"], doc["durable_lsn"])
	require.NotZero(t, doc["segments"])
	c.Kill9(t)

	list := near.json(t, "wal", "list")["timelines"].([]any)[0].(map[string]any)
	require.Empty(t, list["gaps"])
	require.Contains(t, list, "partial")
	require.Contains(t, near.ok(t, "wal", "list"), " up to ")
	for _, how := range []string{"command", "staged"} {
		dir := filepath.Join(pgtest.Dir(t), "data")
		h.reader().ok(t, "restore", dir, "--wal", how)
		require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)), how)
	}
}
