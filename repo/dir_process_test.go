package repo_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// childEnv names what a child process, which is this test binary, is to do to the store in its standard input's first line.
const childEnv = "PGCAIRN_TEST_DIR_CHILD"

// TestDirChild is the main function of the child processes.
func TestDirChild(t *testing.T) {
	task := os.Getenv(childEnv)
	if task == "" {
		return // not a child
	}
	in := bufio.NewReader(os.Stdin)
	dir, err := in.ReadString('\n')
	require.NoError(t, err)
	s, err := repo.OpenDir(strings.TrimSpace(dir), nil)
	require.NoError(t, err)
	switch task {
	case "hang":
		w, err := s.Create(context.Background(), "a/torn")
		require.NoError(t, err)
		_, err = w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
		fmt.Println("written")
		_, _ = in.ReadString('\n') // until killed
	case "race":
		_, err = in.ReadString('\n') // until all are ready
		require.NoError(t, err)
		for i := range raced {
			err := writeObject(s, fmt.Sprintf("race/%03d", i), fmt.Sprint(os.Getpid()))
			if err == nil {
				fmt.Println("won", i)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		}
	case "limited":
		signal.Ignore(syscall.SIGXFSZ)
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 100_000, Max: 100_000}))
		requireFull(t, s, syscall.EFBIG)
	}
}

const raced = 100

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(t *testing.T, task, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDirChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), childEnv+"="+task)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = fmt.Fprintln(in, dir)
	require.NoError(t, err)
	return &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
}

func TestDirKilledWriter(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "hang", dir)
	line, err := c.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "written\n", line)

	requireNothing := func() {
		t.Helper()
		s := openDir(t, dir, nil)
		for _, err := range s.List(t.Context(), "a/torn") {
			t.Error("listed", err)
		}
		_, err := s.Stat(t.Context(), "a/torn")
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	requireNothing()
	require.NoError(t, writeObject(openDir(t, dir, &repo.DirOptions{Now: later}), "a/one", ""))
	require.Len(t, temps(t, dir), 1, "the file of a living process is not removed, however old it is")

	require.NoError(t, c.cmd.Process.Kill())
	_ = c.cmd.Wait()
	requireNothing()
	require.Len(t, temps(t, dir), 1)
	require.NoError(t, writeObject(openDir(t, dir, nil), "a/two", ""))
	require.Len(t, temps(t, dir), 1, "a young file is left alone")
	require.NoError(t, writeObject(openDir(t, dir, &repo.DirOptions{Now: later}), "a/three", ""))
	require.Empty(t, temps(t, dir))
	require.NoError(t, writeObject(openDir(t, dir, nil), "a/torn", "whole"))
}

func TestDirRacingProcesses(t *testing.T) {
	dir := t.TempDir()
	children := make([]*child, 4)
	for i := range children {
		children[i] = startChild(t, "race", dir)
	}
	for _, c := range children {
		_, err := fmt.Fprintln(c.in, "go")
		require.NoError(t, err)
	}
	winner := map[int]int{} // of each object
	for _, c := range children {
		out, err := io.ReadAll(c.out)
		require.NoError(t, err)
		require.NoError(t, c.cmd.Wait())
		for line := range strings.Lines(string(out)) {
			var i int
			if _, err := fmt.Sscanf(line, "won %d", &i); err == nil {
				require.NotContains(t, winner, i, "two processes won")
				winner[i] = c.cmd.Process.Pid
			}
		}
	}
	require.Len(t, winner, raced)
	s := openDir(t, dir, nil)
	for i, pid := range winner {
		body, err := s.Open(t.Context(), fmt.Sprintf("race/%03d", i), 0, -1)
		require.NoError(t, err)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
		assert.Equal(t, fmt.Sprint(pid), string(got))
	}
	assert.Empty(t, temps(t, dir))
}

func TestDirFileSizeLimit(t *testing.T) {
	c := startChild(t, "limited", t.TempDir())
	out, err := io.ReadAll(c.out)
	require.NoError(t, err)
	require.NoError(t, c.cmd.Wait(), string(out))
}

// requireFull demands that an object too large for the store fails with the error want and leaves nothing.
func requireFull(t *testing.T, s repo.Store, want error) {
	t.Helper()
	require.NoError(t, writeObject(s, "a/small", "fits"))
	w, err := s.Create(context.Background(), "a/large")
	require.NoError(t, err)
	n, err := w.Write(make([]byte, 2<<20))
	require.ErrorIs(t, err, want)
	require.Less(t, n, 2<<20)
	_, err = w.Write([]byte("more"))
	require.ErrorIs(t, err, want, "a torn object cannot be gone on with")
	_, err = w.Commit()
	require.ErrorIs(t, err, want)
	requireNoAnswer(t, err)
	require.NoError(t, w.Close())
	for info, err := range s.List(context.Background(), "") {
		require.NoError(t, err)
		require.Equal(t, "a/small", info.Key)
	}
	require.NoError(t, writeObject(s, "a/large", "now it fits"), "and the space is free again")
}
