package wal_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// childEnv holds what a child process, which is this test binary, is to do.
const childEnv = "PGCAIRN_TEST_WAL_CHILD"

type task struct {
	Do       string // "push", "ready", "fetch" or "once"
	Repo     string // directory of the repository
	Identity string // to read with; empty where it is not encrypted
	From, To uint64 // segments
	Dir      string // where files are pushed from, or fetched to
}

// TestChild is the main function of the child processes.
func TestChild(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var do task
	require.NoError(t, json.Unmarshal([]byte(text), &do))
	store, err := repo.OpenDir(do.Repo, &repo.DirOptions{MustExist: true})
	require.NoError(t, err)
	o := &repo.Options{StateDir: filepath.Join(do.Dir, "state")}
	if do.Identity != "" {
		o.Cipher = cipher(t, do.Identity)
	}
	a := openArchive(t, store, o)
	switch do.Do {
	case "push":
		for number := do.From; number < do.To; number++ {
			path := place(t, do.Dir, segment(number).Name(), noisy(segment(number)))
			fmt.Println("pushing", number)
			require.NoError(t, a.Push(t.Context(), path))
			fmt.Println("pushed", number)
			require.NoError(t, os.Remove(path))
		}
	case "ready": // as PostgreSQL does, for a backlog in the data directory Dir
		for number := do.From; number < do.To; number++ {
			fmt.Println("pushing", number)
			_, err := a.PushAsked(t.Context(), filepath.Join(do.Dir, "pg_wal", segment(number).Name()), nil)
			require.NoError(t, err)
			fmt.Println("pushed", number)
			pgwal{do.Dir}.done(t, segment(number).Name())
		}
	case "fetch":
		for number := do.From; ; number++ {
			if number == do.To {
				number = do.From
			}
			fmt.Println("fetching", number)
			require.NoError(t, a.Fetch(t.Context(), segment(number).Name(), filepath.Join(do.Dir, "RECOVERYXLOG")))
			fmt.Println("fetched", number)
		}
	case "once":
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until all are ready
		for number := do.From; number < do.To; number++ {
			err := a.Push(t.Context(), filepath.Join(do.Dir, segment(number).Name()))
			var e *wal.ConflictError
			switch {
			case errors.As(err, &e):
				fmt.Println("conflict", number)
			default:
				require.NoError(t, err)
				fmt.Println("pushed", number)
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println("memory", m.Sys)
		// Not what wait4 tells, which counts the parent's memory at the time of the fork as well.
		status, _ := os.ReadFile("/proc/self/status")
		if _, peak, ok := strings.Cut(string(status), "VmHWM:"); ok {
			fmt.Println("peak", strings.Fields(peak)[0])
		}
	}
}

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(t *testing.T, do task) *child {
	t.Helper()
	text, err := json.Marshal(do)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(c.kill)
	return c
}

// kill ends the child with SIGKILL and waits for that.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// next returns what the child says next: a word and a number.
func (c *child) next(t *testing.T) (what string, number uint64) {
	t.Helper()
	line, err := c.out.ReadString('\n')
	require.NoError(t, err, "the child failed")
	what, number, ok := said(line)
	require.True(t, ok, line)
	return what, number
}

// rest returns all that the child still says.
func (c *child) rest(t *testing.T) string {
	t.Helper()
	b, err := io.ReadAll(c.out)
	require.NoError(t, err)
	return string(b)
}

// said parses a line of a child. One that was cut by its death is none.
func said(line string) (what string, number uint64, ok bool) {
	what, digits, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	number, err := strconv.ParseUint(digits, 10, 64)
	return what, number, err == nil && strings.HasSuffix(line, "\n")
}
