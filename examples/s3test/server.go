// Package s3test runs a real S3 server for tests, versitygw on a temporary directory, and puts a proxy before it that
// does to requests what networks and services do.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Credentials of the server. Nothing that a program prints may have the secret in it.
const (
	AccessKey = "s3test"
	SecretKey = "a-secret-that-nobody-may-print"
)

// Bucket is the bucket that a server has.
const Bucket = "bucket"

const (
	region       = "us-east-1"
	startTimeout = time.Minute
	pollEvery    = 5 * time.Millisecond
)

// Server is an S3 server on a loopback port. One goroutine at a time may start and stop it.
type Server struct {
	// Endpoint is its address, http://host:port. It stays the same when the server is stopped and started again.
	Endpoint string

	root string // a directory for each bucket
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  string
}

// Start starts a server with an empty bucket. It is stopped after the test.
func Start(t testing.TB) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{root: filepath.Join(dir, "root"), log: filepath.Join(dir, "log")}
	if err := os.MkdirAll(filepath.Join(s.root, Bucket), 0o700); err != nil {
		t.Fatalf("s3test: %v", err)
	}
	t.Cleanup(func() {
		s.Stop(t)
		if t.Failed() {
			t.Logf("s3test: the server printed:\n%s", s.printed())
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
	t.Fatalf("s3test: %v", err)
	return nil
}

// Restart starts a server that was stopped, with all that its bucket held.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(t.Context()); err != nil {
		t.Fatalf("s3test: %v", err)
	}
}

// Stop kills the server: whoever asks it next is refused the connection. It does nothing when the server is stopped.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("s3test: %v", err)
	}
	<-s.done
	s.cmd = nil
}

// URL is where the bucket is, as blob.OpenBucket and --repo take it.
func (s *Server) URL() string { return BucketURL(s.Endpoint, Bucket) }

// BucketURL is where a bucket is at an endpoint, as blob.OpenBucket and --repo take it.
func BucketURL(endpoint, bucket string) string {
	q := url.Values{"region": {region}, "use_path_style": {"true"}, "endpoint": {endpoint}}
	return "s3://" + bucket + "?" + q.Encode()
}

// Env are the environment variables by which the AWS SDK finds the credentials, and nothing of this host's own.
func Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
	}
}

func (s *Server) start(ctx context.Context) error {
	program, err := gateway()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has its own descriptor
	address := strings.TrimPrefix(s.Endpoint, "http://")
	args := []string{"--port", address, "--region", region, "--keep-alive", "--quiet", "posix", s.root}
	cmd := exec.Command(program, args...) //nolint:noctx // it lives until stopped, through the test's cleanups
	cmd.Env = []string{"ROOT_ACCESS_KEY_ID=" + AccessKey, "ROOT_SECRET_ACCESS_KEY=" + SecretKey}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for the tests
	endWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, or what it printed says more
		close(s.done)
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
		request, err := http.NewRequestWithContext(ctx, http.MethodHead, s.Endpoint, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			return response.Body.Close() // whatever it says to someone without credentials
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

func (s *Server) printed() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// gateway is the path of the server that make tools builds.
func gateway() (string, error) {
	_, here, _, ok := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", "..", ".tools", "versitygw")
	if _, err := os.Stat(path); !ok || err != nil {
		return "", fmt.Errorf("no S3 server: run make tools: %w", err)
	}
	return path, nil
}

// freeEndpoint is an address that nobody listens on.
func freeEndpoint(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "http://" + l.Addr().String(), l.Close()
}
