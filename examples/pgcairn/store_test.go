package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

func TestParseLocation(t *testing.T) {
	cwd, err := filepath.Abs(".")
	require.NoError(t, err)
	for _, l := range []struct{ in, dir, bucket, prefix, out string }{
		{in: "/backups/prod", dir: "/backups/prod", out: "/backups/prod"},
		{in: "prod", dir: filepath.Join(cwd, "prod"), out: filepath.Join(cwd, "prod")},
		{in: "file:///backups/a%20b", dir: "/backups/a b", out: "/backups/a b"},
		{in: "file://localhost/backups", dir: "/backups", out: "/backups"},
		{in: "file:///backups?prefix=prod/1", dir: "/backups/prod/1", out: "/backups/prod/1"},
		{in: "s3://bucket", bucket: "s3://bucket", out: "s3://bucket"},
		{in: "s3://bucket?prefix=a/b&region=eu-central-1", bucket: "s3://bucket?region=eu-central-1", prefix: "a/b", out: "s3://bucket?prefix=a%2Fb&region=eu-central-1"},
		{in: "gs://bucket?prefix=a", bucket: "gs://bucket", prefix: "a", out: "gs://bucket?prefix=a"},
		{in: "azblob://container?storage_account=x", bucket: "azblob://container?storage_account=x", out: "azblob://container?storage_account=x"},
	} {
		t.Run(l.in, func(t *testing.T) {
			got, err := parseLocation(l.in)
			require.NoError(t, err)
			require.Equal(t, l.dir, got.dir)
			require.Equal(t, l.prefix, got.prefix)
			if l.bucket != "" {
				require.Equal(t, l.bucket, got.bucket.String())
			}
			require.Equal(t, l.out, got.String())
		})
	}
}

// TestBuckets asks a service of each kind, which refuses, for the marker of a repository.
func TestBuckets(t *testing.T) {
	var asked sync.Map
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.Path, true)
		w.Header().Set("X-Ms-Error-Code", "AuthenticationFailed")
		w.WriteHeader(http.StatusForbidden)
	}))
	defer service.Close()
	address := strings.TrimPrefix(service.URL, "http://")
	h := newHost(t).with(
		"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x",
		"STORAGE_EMULATOR_HOST="+address,
		"AZURE_STORAGE_ACCOUNT=someone", "AZURE_STORAGE_KEY=c2VjcmV0",
	)
	for _, b := range []struct{ url, path string }{
		{s3URL(service.URL), "/bucket/some/where/pgcairn.json"},
		{"gs://bucket?anonymous=true&prefix=some/where/", "/bucket/some/where/pgcairn.json"},
		{"azblob://bucket?protocol=http&localemu=true&prefix=some/where&domain=" + address, "/someone/bucket/some/where/pgcairn.json"},
	} {
		h.run(t, "list", "--repo", b.url).requireFailure(t, 1, "open pgcairn.json", "credentials")
		_, ok := asked.Load(b.path)
		require.True(t, ok, "%v", maps.Collect(asked.Range))
		asked.Clear()
	}
}

// TestBucketsTakeTheCompanion: a lone program says what is missing, and `wal fetch` does not take that for an answer.
func TestBucketsTakeTheCompanion(t *testing.T) {
	h := newHost(t)
	lone := filepath.Join(pgtest.Dir(t), "pgcairn")
	pgtest.Run(t, "cp", program, lone)
	for code, args := range map[int][]string{1: {"list"}, 200: {"wal", "fetch", "000000010000000000000001", "x"}} {
		cmd := pgtest.Command(t, lone, append(args, "--repo", "s3://bucket")...)
		cmd.Env = append(cmd.Env, h.env...)
		runCommand(t, cmd).requireFailure(t, code, companion, "")
	}
}
