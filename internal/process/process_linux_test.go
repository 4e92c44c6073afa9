package process

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// childEnv makes this test binary a child that tells who it is and waits.
const childEnv = "PGCAIRN_TEST_PROCESS_CHILD"

func TestChild(*testing.T) {
	if os.Getenv(childEnv) == "" {
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startChild starts a process that lives until it is killed, and names it.
func startChild(t *testing.T) (*exec.Cmd, ID) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	id := Self()
	id.PID = cmd.Process.Pid
	id.Start, err = startOf(id.PID)
	require.NoError(t, err)
	require.NotEmpty(t, id.Start)
	return cmd, id
}

func TestGoneOnceKilled(t *testing.T) {
	cmd, id := startChild(t)
	require.False(t, Gone(id), "it lives")

	require.NoError(t, cmd.Process.Kill())
	// Waits until it has ended, and leaves it a zombie.
	require.NoError(t, unix.Waitid(unix.P_PID, id.PID, nil, unix.WEXITED|unix.WNOWAIT, nil))
	require.True(t, Gone(id), "a zombie does no work")

	_ = cmd.Wait()
	require.True(t, Gone(id))
}

func TestGoneWhenThePIDIsAnothers(t *testing.T) {
	_, id := startChild(t)
	id.Start += "0"
	require.True(t, Gone(id), "a later process has its PID")
	id.Host += "x"
	require.False(t, Gone(id), "but not on another host")
}

func TestHiddenProcessIsNotGone(t *testing.T) {
	hidden := t.TempDir() // a /proc that shows nothing
	_, err := startIn(hidden, os.Getpid())
	require.Error(t, err, "it lives, so nobody can tell")

	cmd, id := startChild(t)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	start, err := startIn(hidden, id.PID)
	require.NoError(t, err)
	require.Empty(t, start)
}

func TestMalformedStatTellsNothing(t *testing.T) {
	proc := t.TempDir()
	require.NoError(t, os.Mkdir(proc+"/7", 0o755))
	fields := strings.Repeat(" 0", 18)
	for stat, want := range map[string]string{
		"7 (sh) S" + fields + " 42 0":           "42",
		"7 (a) b) (c) S" + fields + " 42":       "42",
		"7 (\n) R" + fields + " 42":             "42",
		"7 (sh) Z" + fields + " 42":             "",
		"7 (sh) X" + fields + " 42":             "",
		"":                                      "error",
		"7 (sh":                                 "error",
		"7 (sh)":                                "error",
		"7 (sh) S" + strings.Repeat(" 0", 18):   "error",
		"7 (sh)" + strings.Repeat("\x00", 4096): "error",
	} {
		require.NoError(t, os.WriteFile(proc+"/7/stat", []byte(stat), 0o644))
		got, err := startIn(proc, 7)
		if want == "error" {
			require.Error(t, err, "%q", stat)
			continue
		}
		require.NoError(t, err, "%q", stat)
		require.Equal(t, want, got, "%q", stat)
	}
}

func TestAlive(t *testing.T) {
	cmd, id := startChild(t)
	require.True(t, Alive(id.PID))
	path, info, err := WorkDir(id.PID)
	require.NoError(t, err)
	here, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, here, path)
	want, err := os.Stat(here)
	require.NoError(t, err)
	require.True(t, os.SameFile(want, info))

	require.NoError(t, cmd.Process.Kill())
	require.NoError(t, unix.Waitid(unix.P_PID, id.PID, nil, unix.WEXITED|unix.WNOWAIT, nil))
	require.False(t, Alive(id.PID), "a zombie does no work")
	_ = cmd.Wait()
	require.False(t, Alive(id.PID))
	_, _, err = WorkDir(id.PID)
	require.Error(t, err)
}

func TestAttached(t *testing.T) {
	const key = 0x7067636e
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	require.False(t, Attached(key, uint64(id)), "nobody is attached")
	mem, err := unix.SysvShmAttach(id, 0, 0)
	require.NoError(t, err)
	require.True(t, Attached(key, uint64(id)))
	require.False(t, Attached(key+1, uint64(id)), "another took its id")
	require.NoError(t, unix.SysvShmDetach(mem))
	require.False(t, Attached(key, uint64(id)))
	require.False(t, Attached(key, 1<<30), "there is none")
}
