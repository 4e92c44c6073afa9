package durable_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/durable"
)

// childEnv names what a child process, which is this test binary, is to do with the file in its last argument.
const childEnv = "PGCAIRN_TEST_DURABLE_CHILD"

const versionSize = 400_000

// TestChild is the main function of the child processes.
func TestChild(t *testing.T) {
	task, path, _ := strings.Cut(os.Getenv(childEnv), " ")
	switch task {
	case "hang":
		err := durable.WriteFile(path, 0o600, func(w io.Writer) error {
			if _, err := io.WriteString(w, "half"); err != nil {
				return err
			}
			fmt.Println("half")
			_, err := io.Copy(io.Discard, os.Stdin) // until killed
			return err
		})
		require.NoError(t, err)
	case "write":
		for i := 0; ; i++ {
			require.NoError(t, durable.WriteFile(path, 0o600, text(strings.Repeat(fmt.Sprintf("%08d", i), versionSize/8))))
			fmt.Println(i)
		}
	case "lock":
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		locked, err := durable.TryLock(f)
		require.NoError(t, err)
		fmt.Println(locked)
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
	}
}

type child struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

func startChild(t *testing.T, task, path string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), childEnv+"="+task+" "+path)
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

// line returns the next line that the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	require.NoError(t, err, line)
	return strings.TrimSuffix(line, "\n")
}

// kill ends the child with SIGKILL and waits for that.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.in.Close()
	_ = c.cmd.Wait()
}
