// Package testserver runs, for a test, a program that serves HTTP on a loopback port.
package testserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	startTimeout = 2 * time.Minute
	pollEvery    = 5 * time.Millisecond
)

// Program is what a Server runs.
type Program struct {
	Path string
	Args func(address string) []string // address is host:port, to listen on
	Env  []string                      // all of its environment
	Dir  string                        // the working directory; the test's own when empty

	// Ready is a path that is answered with 200 when the program is ready. When it is empty, any answer will do.
	Ready string
}

// Server is a program that serves HTTP on a loopback port. One goroutine at a time may start and stop it.
type Server struct {
	// Endpoint is its address, http://host:port. It stays the same when the server is stopped and started again.
	Endpoint string

	program Program
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
	log     string
}

// Start starts a server, which is stopped after the test.
func Start(t testing.TB, p Program) *Server {
	t.Helper()
	s := &Server{program: p, log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(func() {
		s.Stop(t)
		if t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(p.Path), s.printed())
		}
	})
	var err error
	for range 3 { // somebody else may take the free port meanwhile
		if s.Endpoint, err = freeEndpoint(t.Context()); err == nil {
			err = s.start(t.Context())
		}
		if err == nil {
			return s
		}
	}
	t.Fatalf("testserver: %v", err)
	return nil
}

// Restart starts a server that was stopped, with all that it holds on disk.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(t.Context()); err != nil {
		t.Fatalf("testserver: %v", err)
	}
}

// Stop kills the server: whoever asks it next is refused the connection. It does nothing when the server is stopped.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("testserver: %v", err)
	}
	<-s.done
	s.cmd = nil
}

func (s *Server) start(ctx context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has its own descriptor
	args := s.program.Args(strings.TrimPrefix(s.Endpoint, "http://"))
	cmd := exec.Command(s.program.Path, args...) //nolint:noctx // it lives until stopped, through the test's cleanups
	cmd.Env, cmd.Dir = s.program.Env, s.program.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for the tests
	endWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	s.cmd, s.done = cmd, done
	go func() {
		_ = cmd.Wait() // killed, or what it printed says more
		close(done)
	}()
	return s.awaitReady(ctx)
}

// awaitReady polls until the server answers.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := s.ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			s.cmd = nil
			return fmt.Errorf("the server ended:\n%s", s.printed())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w\n%s", err, s.printed())
		case <-tick.C:
		}
	}
}

func (s *Server) ask(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+s.program.Ready, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if s.program.Ready != "" && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", s.program.Ready, response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

func (s *Server) printed() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tool is the path of something that make tools installs in .tools.
func Tool(t testing.TB, name string) string {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", "..", "..", ".tools", filepath.FromSlash(name))
	if _, err := os.Stat(path); !ok || err != nil {
		t.Fatalf("testserver: no %s: run make tools: %v", name, err)
	}
	return path
}

// freeEndpoint is an address that nobody listens on.
func freeEndpoint(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "http://" + l.Addr().String(), l.Close()
}
