package drill

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// How long a server that was told to end may take, before it is told otherwise.
const (
	quitTimeout = 10 * time.Second // for an immediate shutdown
	killTimeout = 10 * time.Second // for its children, once it is gone
)

// process is the server's first, the postmaster.
type process struct {
	cmd   *exec.Cmd
	done  chan struct{} // closed when it has ended
	err   error         // how; valid after done
	alive *os.File      // ends when nothing that it has started lives any more
}

// startProcess starts a server. It inherits the mark, and with it the lock on it.
func startProcess(cmd *exec.Cmd, mark *os.File) (*process, error) {
	alive, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = held.Close() }() // the server has its own
	cmd.ExtraFiles = []*os.File{mark, held}
	p := &process{cmd: cmd, done: make(chan struct{}), alive: alive}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		// To the kernel a process has lost its parent when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		_ = alive.Close()
		return nil, err
	}
	return p, nil
}

// ended tells whether it has.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// shutDown ends it in order, as pg_ctl's mode "fast" does, and returns how it ended.
func (p *process) shutDown(ctx context.Context) error {
	if err := p.signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// discard ends it and all that it has started, whatever becomes of its data, and returns when none of it lives any more.
func (p *process) discard() error {
	err := p.end()
	// Children notice by themselves that the postmaster is gone.
	timeout := time.AfterFunc(killTimeout, func() { _ = p.alive.Close() })
	_, readErr := io.Copy(io.Discard, p.alive)
	if timeout.Stop() {
		_ = p.alive.Close()
	} else if readErr != nil {
		err = errors.Join(err, errors.New("children of the server live on"))
	}
	return err
}

func (p *process) end() error {
	timeout := time.NewTimer(quitTimeout)
	defer timeout.Stop()
	if err := p.signal(syscall.SIGQUIT); err != nil {
		return errors.Join(err, p.kill())
	}
	select {
	case <-p.done:
		return nil
	case <-timeout.C:
		return p.kill()
	}
}

func (p *process) kill() error {
	err := p.signal(os.Kill)
	if err == nil {
		<-p.done
	}
	return err
}

// signal sends s; to a process that has ended it sends nothing.
func (p *process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
