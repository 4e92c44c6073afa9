package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
	"github.com/stretchr/testify/require"
)

// TestFetchExitCodes: 1 is the archive's own answer that it holds no such segment, at which PostgreSQL ends recovery.
// Whatever else goes wrong must not look like that.
func TestFetchExitCodes(t *testing.T) {
	h, name := newArchive(t)
	reader := h.reader()
	dest := filepath.Join(h.dir, "fetched")
	other := newHost(t)

	require.Empty(t, reader.ok(t, "wal", "fetch", name, dest))
	require.FileExists(t, dest)
	require.NoError(t, os.Remove(dest))
	require.Equal(t, map[string]any{"name": name, "destination": dest}, reader.json(t, "wal", "fetch", name, dest))
	require.NoError(t, os.Remove(dest))

	object := find(t, h.repo, name)
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T) // what it does has to be undone by t.Cleanup
		host    *host
		args    []string
		code    int
		problem string
		hint    string
	}{
		{name: "no such segment", args: []string{"000000010000000000000009", dest}, code: 1, problem: "is not in the archive"},
		{name: "no such history", args: []string{"00000002.history", dest}, code: 1, problem: "is not in the archive"},
		{name: "the history no cluster has", args: []string{"00000001.history", dest}, code: 1, problem: "is not in the archive"},
		{name: "not a name", args: []string{"passwd", dest}, code: 200, problem: "not the name of a WAL file", hint: "%f %p"},
		{name: "no arguments", code: 200, problem: "<name>"},
		{name: "an unknown flag", args: []string{name, dest, "--frobnicate"}, code: 200, problem: "--frobnicate"},
		{name: "no repository given", args: []string{name, dest, "--repo="}, code: 200, problem: "no repository given"},
		{name: "a bad variable", host: reader.with("PGCAIRN_PROGRESS=x"), args: []string{name, dest}, code: 200, problem: "--progress"},
		{name: "no such directory", host: other, args: []string{name, dest}, code: 200, problem: "no pgcairn repository", hint: "pgcairn init"},
		{
			name: "an empty directory, as of a disk that is not mounted", host: other, args: []string{name, dest}, code: 200,
			problem: "no pgcairn repository", hint: "mounted",
			prepare: func(t *testing.T) { require.NoError(t, os.Mkdir(other.repo, 0o755)) },
		},
		{name: "no identity", host: h.writer(), args: []string{name, dest}, code: 200, problem: h.recipient, hint: "PGCAIRN_IDENTITY"},
		{name: "neither recipient nor identity", host: h, args: []string{name, dest}, code: 200, problem: "encrypted", hint: "--identity"},
		{name: "the wrong identity", host: h.with("PGCAIRN_IDENTITY=" + other.identity), args: []string{name, dest}, code: 200, problem: h.recipient, hint: "identity"},
		{name: "no identity file", host: h.with("PGCAIRN_IDENTITY=/nonexistent"), args: []string{name, dest}, code: 200, problem: "/nonexistent"},
		{name: "nowhere to write", args: []string{name, "/nonexistent/x"}, code: 200, problem: "/nonexistent"},
		{
			name: "a damaged object", args: []string{name, dest}, code: 200, problem: "corrupt object wal/", hint: "damaged",
			prepare: func(t *testing.T) { flip(t, object) },
		},
		{
			name: "an object that may not be read", args: []string{name, dest}, code: 200, problem: "permission denied", hint: "user",
			prepare: func(t *testing.T) { chmod(t, object, 0) },
		},
		{
			name: "a directory that may not be searched", args: []string{name, dest}, code: 200, problem: "permission denied", hint: "user",
			prepare: func(t *testing.T) { chmod(t, filepath.Dir(object), 0) },
		},
		{
			name: "an unknown format", args: []string{name, dest}, code: 200, problem: "format 2 is unknown", hint: "newer version",
			prepare: func(t *testing.T) { edit(t, filepath.Join(h.repo, "pgcairn.json"), `"format":1`, `"format":2`) },
		},
		{
			name: "a data key that is gone", args: []string{name, dest}, code: 200, problem: "data key is missing",
			hint: "damaged", prepare: func(t *testing.T) { hide(t, filepath.Join(h.repo, "keys")) },
		},
		{
			name: "a service that cannot be reached", code: 200, problem: "connection refused", hint: "--repo",
			host: reader.with("PGCAIRN_REPO="+s3URL("http://127.0.0.1:1"), "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_MAX_ATTEMPTS=1"),
			args: []string{name, dest},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.prepare != nil {
				c.prepare(t)
			}
			host := c.host
			if host == nil {
				host = reader
			}
			host.run(t, append([]string{"wal", "fetch"}, c.args...)...).requireFailure(t, c.code, c.problem, c.hint)
			require.NoFileExists(t, dest)
		})
	}
}

// TestFetchInterrupted ends a fetch while it waits for a service that does not answer.
func TestFetchInterrupted(t *testing.T) {
	// What ignores this signal, as nohup does, has those that it starts ignore it too.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	h := newHost(t)
	asked, end := make(chan string), make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.Path:
		case <-end:
		}
		<-end
	}))
	defer service.Close()
	defer close(end)
	h = h.with("PGCAIRN_REPO="+s3URL(service.URL), "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x")
	for _, c := range []struct {
		signal syscall.Signal
		code   int // -1: ended by a signal, which a shell makes a number over 128
	}{
		{syscall.SIGINT, 200}, {syscall.SIGTERM, 200}, {syscall.SIGQUIT, -1}, {syscall.SIGHUP, -1}, {syscall.SIGABRT, -1},
	} {
		t.Run(c.signal.String(), func(t *testing.T) {
			cmd := h.command(t, "wal", "fetch", "000000010000000000000001", filepath.Join(h.dir, "x"))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			require.NoError(t, cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case path := <-asked:
				require.Equal(t, "/bucket/some/where/pgcairn.json", path)
			case <-ended:
				require.Fail(t, "it ended too early", "%s", stderr.String())
			}
			require.NoError(t, cmd.Process.Signal(c.signal))
			<-ended
			require.Equal(t, c.code, cmd.ProcessState.ExitCode())
		})
	}
}

func s3URL(endpoint string) string {
	return "s3://bucket?region=us-east-1&use_path_style=true&disable_https=true&prefix=some/where&endpoint=" + endpoint
}

// newArchive makes an encrypted repository with one segment in it.
func newArchive(t *testing.T) (h *host, name string) {
	t.Helper()
	h = newHost(t)
	h.writer().ok(t, "init")
	name = writeSegment(t, h.dir, 1, 7)
	require.Empty(t, h.writer().ok(t, "wal", "push", filepath.Join(h.dir, name)))
	return h, name
}

// writeSegment writes a segment of a cluster into a directory and returns its name.
func writeSegment(t *testing.T, dir string, number, system uint64) string {
	t.Helper()
	s := wal.Segment{Timeline: 1, Number: number, Size: wal.MinSegmentSize}
	require.NoError(t, os.WriteFile(filepath.Join(dir, s.Name()), waltest.Segment(s, system, 18), 0o644))
	pgtest.Own(t, dir)
	return s.Name()
}

// find returns the path of the file of that name below a directory.
func find(t *testing.T, dir, name string) string {
	t.Helper()
	var found string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == name {
			found = path
		}
		return err
	}))
	require.NotEmpty(t, found)
	return found
}

// change rewrites a file in place until the test ends.
func change(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	old, err := os.ReadFile(path)
	require.NoError(t, err)
	changed := f([]byte(string(old)))
	require.NotEqual(t, old, changed)
	require.NoError(t, os.WriteFile(path, changed, 0o600))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(path, old, 0o600)) })
}

func edit(t *testing.T, path, from, to string) {
	t.Helper()
	change(t, path, func(b []byte) []byte { return []byte(strings.Replace(string(b), from, to, 1)) })
}

func flip(t *testing.T, path string) {
	t.Helper()
	change(t, path, func(b []byte) []byte {
		b[len(b)-20] ^= 1
		return b
	})
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, mode))
	t.Cleanup(func() { require.NoError(t, os.Chmod(path, info.Mode().Perm())) })
}

func hide(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.Rename(path, path+".hidden"))
	t.Cleanup(func() { require.NoError(t, os.Rename(path+".hidden", path)) })
}
