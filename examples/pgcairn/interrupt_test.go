package main

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestBackupInterrupted ends a backup by a signal at two moments: while the server makes a checkpoint for it, and while
// files are read. Each time nothing is left of it, in the repository or on the server, and the next one succeeds.
func TestBackupInterrupted(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	near := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	// About 100 MB that do not compress. They are dirty in memory, which makes a spread checkpoint last.
	c.Exec(t, `create table big as select gen_random_uuid() a, gen_random_uuid() b, gen_random_uuid() c, gen_random_uuid() d,
		gen_random_uuid() e, gen_random_uuid() f, gen_random_uuid() g, gen_random_uuid() h from generate_series(1, 650000)`)

	for _, i := range []struct {
		name   string
		args   []string
		signal os.Signal
		begun  func() bool
	}{
		{
			name: "checkpoint", args: []string{"--checkpoint", "spread"}, signal: syscall.SIGINT,
			begun: func() bool {
				return pgtest.Value[bool](t, c, `select exists (select from pg_stat_activity
					where query like 'select pg_backup_start%' and wait_event = 'CheckpointDone')`)
			},
		},
		{
			name: "read", signal: syscall.SIGTERM,
			begun: func() bool {
				packs, err := filepath.Glob(filepath.Join(h.repo, "packs", "*", "0*"))
				require.NoError(t, err)
				return len(packs) > 0
			},
		},
	} {
		t.Run(i.name, func(t *testing.T) {
			cmd := near.command(t, append([]string{"backup", "--pgdata", c.Data, "--json"}, i.args...)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			require.NoError(t, cmd.Start())
			require.Eventually(t, i.begun, patience, pollEvery)
			if i.name == "checkpoint" {
				near.run(t, "backup", "--pgdata", c.Data).requireFailure(t, 1, `the lease "backup" is held by process`, "runs: wait for its end")
			}
			require.NoError(t, cmd.Process.Signal(i.signal))
			_ = cmd.Wait()
			out := outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
			out.requireFailure(t, 1, i.signal.String()+" signal received", "")
			require.Empty(t, h.reader().json(t, "list")["backups"])
			requireServerIdle(t, c)
		})
	}
	c.Exec(t, `drop table big`, `checkpoint`) // so that the next one is quick
	requireNothingLeft(t, h, c)
}
