package repo_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// leaseEnv names the directory store in which a child process, which is this test binary, takes a lease and keeps it.
const leaseEnv = "PGCAIRN_TEST_LEASE_CHILD"

// TestLeaseChild is the main function of the child process.
func TestLeaseChild(t *testing.T) {
	dir := os.Getenv(leaseEnv)
	if dir == "" {
		return // not a child
	}
	r := leaser(t, openDir(t, dir, nil), 0)
	err := r.WithLease(t.Context(), "backup", func(context.Context, *repo.Lease) error {
		fmt.Println("held")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until killed
		return nil
	})
	require.NoError(t, err)
}

// A lease whose process was killed on this host is free at once.
func TestLeaseOfKilledProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLeaseChild$")
	cmd.Env = append(os.Environ(), leaseEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held", strings.TrimSpace(line))

	r := leaser(t, openDir(t, dir, nil), 0)
	var held *repo.LeaseError
	require.ErrorAs(t, tryLease(t.Context(), r), &held)
	assert.Equal(t, cmd.Process.Pid, held.PID)

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.NoError(t, tryLease(t.Context(), r))
}
