package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	startTimeout  = 2 * time.Minute
	stopTimeout   = time.Minute
	answerTimeout = 10 * time.Second
	pollInterval  = 10 * time.Millisecond
	logTail       = 6000 // bytes shown of a log
)

// Start starts the server and waits until it is ready and recovery, if there is any, has ended.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	if err := c.start(t, false, 0); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// StartStandby starts the server and waits until it accepts connections, be it in recovery.
func (c *Cluster) StartStandby(t testing.TB) {
	t.Helper()
	if err := c.start(t, true, 0); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Stop shuts the server down in order, with pg_ctl's mode "fast". It does nothing when the server is stopped.
func (c *Cluster) Stop(t testing.TB) {
	t.Helper()
	if err := c.stop(t, syscall.SIGINT); err != nil {
		t.Fatalf("pgtest: server did not shut down in order: %v\n%s", err, c.tail())
	}
}

// StopImmediate ends the server without a checkpoint, with pg_ctl's mode "immediate": the next start recovers.
func (c *Cluster) StopImmediate(t testing.TB) {
	t.Helper()
	_ = c.stop(t, syscall.SIGQUIT) // the exit status is not 0
}

// Kill9 kills the server and everything it has started, all at once, as a crash of the machine would.
func (c *Cluster) Kill9(t testing.TB) {
	t.Helper()
	if c.server == nil {
		t.Fatal("pgtest: no server to kill")
	}
	if err := c.server.killAll(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	c.server = nil
}

// Restart stops the server in order and starts it.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.Stop(t)
	c.Start(t)
}

// Reload lets the server read its configuration files again. It takes effect a moment later.
func (c *Cluster) Reload(t testing.TB) {
	t.Helper()
	if c.server == nil {
		t.Fatal("pgtest: no server to reload")
	}
	if err := c.server.signal(syscall.SIGHUP); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Running reports whether the server runs. One that has ended by itself does not.
func (c *Cluster) Running() bool {
	return c.server != nil && !c.server.ended()
}

func (c *Cluster) start(t testing.TB, standby bool, timeout time.Duration) error {
	t.Helper()
	if c.Running() {
		t.Fatal("pgtest: the server runs already")
	}
	log, err := os.OpenFile(c.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has its own descriptor
	if c.server, err = startProcess(t, log, c.env, filepath.Join(c.bin, "postgres"), c.args...); err != nil {
		return err
	}
	if timeout == 0 {
		timeout = startTimeout
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if err := c.awaitReady(ctx, standby); err != nil {
		_ = c.stop(t, syscall.SIGQUIT) // awaitReady's error is the one that matters
		return fmt.Errorf("server on %s: %w\n%s", c.Data, err, c.tail())
	}
	return nil
}

// awaitReady polls until the server accepts connections and, unless standby is set, has left recovery.
func (c *Cluster) awaitReady(ctx context.Context, standby bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := errors.New("it has not been asked yet")
	for {
		select {
		case <-c.server.done:
			return fmt.Errorf("it ended: %w", c.server.err)
		case <-ctx.Done():
			return fmt.Errorf("it is not ready (%w): %w", ctx.Err(), last)
		case <-tick.C:
		}
		recovering, err := c.inRecovery(ctx)
		switch {
		case err != nil:
			last = err
		case recovering && !standby:
			last = errors.New("still in recovery")
		default:
			return nil
		}
	}
}

// inRecovery asks the server once. It gives it time to answer even if ctx ends meanwhile, so that an error is the
// server's own.
func (c *Cluster) inRecovery(ctx context.Context) (recovering bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&recovering)
	return recovering, err
}

// stop sends the server a signal and waits until it has ended; it returns the server's own verdict.
func (c *Cluster) stop(t testing.TB, s syscall.Signal) error {
	t.Helper()
	if c.server == nil {
		return nil
	}
	server := c.server
	c.server = nil
	if err := server.signal(s); err != nil {
		return err
	}
	select {
	case <-server.done:
		return server.err
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("it still ran %v after %v", stopTimeout, s), server.killAll())
	}
}

// discard is what remains to be done after the test.
func (c *Cluster) discard(t testing.TB) {
	t.Helper()
	_ = c.stop(t, syscall.SIGQUIT) // nobody needs its data any more
	if t.Failed() {
		t.Logf("pgtest: PostgreSQL %d on %s printed:\n%s", c.Major, c.Data, c.tail())
	}
}

// tail returns the end of the server's log.
func (c *Cluster) tail() string {
	b, err := os.ReadFile(c.logFile)
	if err != nil {
		return err.Error()
	}
	if len(b) > logTail {
		b = append([]byte("...\n"), b[len(b)-logTail:]...)
	}
	return string(b)
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer func() { _ = l.Close() }() // only its number was wanted
	return l.Addr().(*net.TCPAddr).Port
}
