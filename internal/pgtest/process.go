package pgtest

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid after done
}

// startProcess starts a program as the user that servers run as. It does not outlive the process that runs the tests.
func startProcess(t testing.TB, out *os.File, env []string, program string, args ...string) (*process, error) {
	t.Helper()
	cmd := exec.Command(program, args...) //nolint:noctx // it lives until stopped, through the test's cleanups
	asServer(t, cmd)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // an interrupt at the terminal is for the tests
	endWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends s; to a process that has ended it sends nothing.
func (p *process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// killAll kills the process and its descendants with SIGKILL and returns when none of them runs any more.
func (p *process) killAll() error {
	if err := p.signal(syscall.SIGSTOP); err != nil { // so that it starts no more children
		return err
	}
	family := descendants(p.cmd.Process.Pid)
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	for _, pid := range family {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	<-p.done
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for deadline := time.Now().Add(stopTimeout); slices.ContainsFunc(family, alive); <-tick.C {
		if time.Now().After(deadline) {
			return errors.New("children of the server survived SIGKILL")
		}
	}
	return nil
}
