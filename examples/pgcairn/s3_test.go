package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
	"github.com/stretchr/testify/require"
)

// onS3 is a host whose repository is in a folder of a bucket at an endpoint.
func (h *host) onS3(endpoint string) *host {
	h.repo = s3test.BucketURL(endpoint, s3test.Bucket) + "&prefix=some/where"
	return h.with(append(s3test.Env(), "PGCAIRN_REPO="+h.repo)...)
}

// TestS3Road walks the main road with an encrypted repository in a bucket of a real service: archive_command, a backup,
// and recovery, by restore_command, and with staged WAL while the service is down.
func TestS3Road(t *testing.T) {
	t.Parallel()
	service := s3test.Start(t)
	h := newHost(t).onS3(service.Endpoint)
	first := h.writer().json(t, "init")
	require.Equal(t, true, first["encrypted"])
	require.Equal(t, first, h.writer().json(t, "init"))

	c := newCluster(t, h, nil)
	near := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	require.Equal(t, true, near.json(t, "check")["ok"])
	b := near.json(t, "backup", "--pgdata", c.Data)
	c.Exec(t, `create table precious as select i, md5(i::text) from generate_series(1, 5000) i`)
	want := pgtest.Checksums(t, c)
	c.Exec(t, `select pg_create_restore_point('before')`, `drop table precious`)
	archiveAll(t, c)

	reader := h.reader()
	list := reader.json(t, "list")["backups"].([]any)
	require.Len(t, list, 1)
	require.Equal(t, b["id"], list[0].(map[string]any)["id"])
	require.Empty(t, near.json(t, "wal", "list")["timelines"].([]any)[0].(map[string]any)["gaps"])
	events := reader.json(t, "wal", "search", "--kind", "restore-point")["events"].([]any)
	require.Len(t, events, 1)
	require.Equal(t, "before", events[0].(map[string]any)["name"])
	require.Equal(t, true, reader.json(t, "plan", "--to-name", "before")["reachable"])

	for _, how := range []string{"command", "staged"} {
		dir := filepath.Join(pgtest.Dir(t), "data")
		reader.ok(t, "restore", dir, "--to-name", "before", "--wal", how)
		conf, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
		require.NoError(t, err)
		require.NotContains(t, string(conf), s3test.SecretKey)
		if how == "staged" {
			service.Stop(t)
		}
		require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, &pgtest.BootOptions{Env: s3test.Env()})), how)
	}
}

// TestS3Wrong: each command says what is wrong with the bucket, gives a hint, ends by its exit code and takes nothing of
// it for an answer; and nothing tells the secret.
func TestS3Wrong(t *testing.T) {
	t.Parallel()
	service := s3test.Start(t)
	h := newHost(t).onS3(service.Endpoint)
	h.ok(t, "init")
	name := writeSegment(t, h.dir, 1, 7)
	path, dest, dir := filepath.Join(h.dir, name), filepath.Join(h.dir, "fetched"), filepath.Join(h.dir, "new")
	h.ok(t, "wal", "push", path)

	down := s3test.Start(t)
	down.Stop(t)
	url := func(endpoint, bucket string) string { return "PGCAIRN_REPO=" + s3test.BucketURL(endpoint, bucket) }
	for _, w := range []struct {
		name          string
		env           string
		problem, hint string
	}{
		{"a wrong secret", "AWS_SECRET_ACCESS_KEY=another-" + s3test.SecretKey, "SignatureDoesNotMatch", "credentials"},
		{"an unknown key", "AWS_ACCESS_KEY_ID=nobody", "No user exists", "credentials"},
		{"no credentials", "AWS_ACCESS_KEY_ID=", "credentials", "credentials"},
		{"no such bucket", url(service.Endpoint, "another"), "NoSuchBucket", "the bucket's name"},
		{"nobody listens", url(down.Endpoint, s3test.Bucket), "connection refused", "is the service of --repo running"},
	} {
		t.Run(w.name, func(t *testing.T) {
			host := h.with(w.env, "PGCAIRN_LOG_LEVEL=debug")
			// Beside each other, as the SDK asks several times those who do not answer.
			outcomes := host.runAll(t, [][]string{
				{"wal", "fetch", name, dest},
				{"wal", "push", path},
				{"wal", "list"},
				{"init"},
				{"list"},
				{"plan"},
				{"restore", dir},
			})
			for i, out := range outcomes {
				require.NotContains(t, out.stdout+out.stderr, s3test.SecretKey)
				out.requireFailure(t, map[bool]int{true: 200, false: 1}[i == 0], w.problem, w.hint)
			}
			require.NoFileExists(t, dest)
			require.NoDirExists(t, dir)
		})
	}
	for _, from := range []string{"s3://me:secret@bucket", "s3://secret@bucket"} {
		out := h.run(t, "list", "--repo", from)
		out.requireFailure(t, 2, "credentials do not belong in the URL", "")
		require.NotContains(t, out.stderr, "secret")
	}
	h.ok(t, "wal", "fetch", name, dest)
}

// runAll runs the program several times at once.
func (h *host) runAll(t *testing.T, all [][]string) []outcome {
	t.Helper()
	outcomes := make([]outcome, len(all))
	var wg sync.WaitGroup
	for i, args := range all {
		cmd := h.command(t, args...)
		wg.Go(func() {
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			outcomes[i] = outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
		})
	}
	wg.Wait()
	return outcomes
}

// TestS3Push: a push whose answer does not come is given up, with words that say so, and the next one succeeds. One that
// the service refuses, or does not answer to, is not acknowledged.
func TestS3Push(t *testing.T) {
	t.Parallel()
	service := s3test.Start(t)
	proxy := s3test.NewProxy(t, service.Endpoint)
	h := newHost(t).onS3(service.Endpoint)
	h.writer().ok(t, "init")
	far := h.writer().onS3(proxy.Endpoint)
	for i, p := range []struct {
		fault         s3test.Fault // of each try
		timeout       string
		problem, hint string
	}{
		{s3test.DoneStalled, "2s", "gave up after 2s", "nothing was acknowledged"},
		{s3test.Stall, "2s", "gave up after 2s", "nothing was acknowledged"},
		{s3test.DoneCut, "5m", "", ""}, // what is there after an upload without an answer is compared
		{s3test.Cut, "5m", "EOF", ""},
		{s3test.Busy, "5m", "SlowDown", ""},
	} {
		t.Run(p.fault.String(), func(t *testing.T) {
			name := writeSegment(t, h.dir, uint64(i+1), 7)
			path, dest := filepath.Join(h.dir, name), filepath.Join(h.dir, "fetched "+name)
			proxy.Script(func(r s3test.Request) s3test.Fault {
				if r.Op == "PUT" && filepath.Base(r.Key) == name {
					return p.fault
				}
				return s3test.None
			})
			out := far.run(t, "wal", "push", path, "--timeout", p.timeout)
			if p.problem == "" {
				require.Zero(t, out.code, out.stderr)
			} else {
				out.requireFailure(t, 1, p.problem, p.hint)
			}
			if done := p.fault == s3test.DoneStalled || p.fault == s3test.DoneCut; !done {
				h.reader().run(t, "wal", "fetch", name, dest).requireFailure(t, 1, "is not in the archive", "")
			}
			proxy.Script(nil)
			far.ok(t, "wal", "push", path)
			h.reader().ok(t, "wal", "fetch", name, dest)
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			got, err := os.ReadFile(dest)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// TestS3Parts: a segment that does not compress is sent in parts. The SDK would say more of that than a command should.
func TestS3Parts(t *testing.T) {
	t.Parallel()
	service := s3test.Start(t)
	proxy := s3test.NewProxy(t, service.Endpoint)
	h := newHost(t).onS3(proxy.Endpoint)
	h.writer().ok(t, "init")
	s := wal.Segment{Timeline: 1, Number: 1, Size: 16 << 20}
	want := waltest.Segment(s, 7, 18)
	_, _ = rand.NewChaCha8([32]byte{}).Read(want[100:])
	path, dest := filepath.Join(h.dir, s.Name()), filepath.Join(h.dir, "fetched")
	require.NoError(t, os.WriteFile(path, want, 0o644))
	pgtest.Own(t, h.dir)
	proxy.Requests()
	h.writer().ok(t, "wal", "push", path)
	require.True(t, slices.ContainsFunc(proxy.Requests(), func(r s3test.Request) bool { return r.Op == "POST" }))
	h.writer().ok(t, "wal", "push", path)
	h.reader().ok(t, "wal", "fetch", s.Name(), dest)
	got, err := os.ReadFile(dest)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	want[9000]++
	require.NoError(t, os.WriteFile(path, want, 0o644))
	h.writer().run(t, "wal", "push", path).requireFailure(t, 1, "archived already with other content", "only one server")
}
