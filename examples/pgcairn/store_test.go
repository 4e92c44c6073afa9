package main

import (
	"path/filepath"
	"testing"

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

// TestClouds opens each kind of bucket, which asks nobody yet.
func TestClouds(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
	t.Setenv("AZURE_STORAGE_ACCOUNT", "someone")
	t.Setenv("AZURE_STORAGE_KEY", "c2VjcmV0")
	for _, url := range []string{"s3://bucket?prefix=x", "gs://bucket?prefix=x&anonymous=true", "azblob://container?prefix=x"} {
		l, err := parseLocation(url)
		require.NoError(t, err)
		_, err = l.open(t.Context(), false)
		require.NoError(t, err, url)
	}
}
