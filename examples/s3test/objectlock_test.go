package s3test_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/examples/internal/testserver"
	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// locked is the bucket whose objects are retained for a day, which nobody can shorten.
const locked = "locked"

// lockedStores are stores in such a bucket, on each server. In a bucket that keeps versions, as Object Lock demands of
// S3, a deletion puts a marker before the version that is retained; a gateway that keeps none refuses it.
var lockedStores = []struct {
	name     string
	start    func(t testing.TB) *s3test.Server
	versions bool
}{
	{"versitygw", s3test.Start, true},
	{"MinIO", s3test.StartMinIO, true},
	{"versitygw without versions", startUnversioned, false},
}

func startUnversioned(t testing.TB) *s3test.Server {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Mkdir(root, 0o700))
	return &s3test.Server{Server: testserver.Start(t, testserver.Program{
		Path: testserver.Tool(t, "versitygw"),
		Args: func(address string) []string {
			return []string{"--port", address, "--region", "us-east-1", "--keep-alive", "--quiet", "posix", root}
		},
		Env: []string{"ROOT_ACCESS_KEY_ID=" + s3test.AccessKey, "ROOT_SECRET_ACCESS_KEY=" + s3test.SecretKey},
	})}
}

// lockBucket makes the bucket, and opens two folders of it.
func lockBucket(t testing.TB, server *s3test.Server) (one, other repo.Store) {
	t.Helper()
	server.CreateLockedBucket(t, locked)
	b, err := blob.OpenBucket(t.Context(), s3test.BucketURL(server.Endpoint, locked))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	open := func(folder string) repo.Store { return repo.Retry(bucket.New(b, &bucket.Options{Prefix: folder}), nil) }
	return open("some/where"), open("else")
}

// TestObjectLock: on a bucket whose objects are retained all works that has no need to delete, and what cannot be deleted
// is said to be refused.
func TestObjectLock(t *testing.T) {
	t.Parallel()
	for _, l := range lockedStores {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			server := l.start(t)
			s, forBackup := lockBucket(t, server)
			ctx := t.Context()
			require.NoError(t, repo.Probe(ctx, s))
			all, recipient := newCipher(t)
			for range 2 {
				_, err := repo.Init(ctx, s, &repo.Options{Cipher: recipient})
				require.NoError(t, err)
			}
			r, err := repo.Open(ctx, s, &repo.Options{Cipher: all})
			require.NoError(t, err)

			// A lease that was released is free, though nothing of it was deleted.
			for range 3 {
				held := 0
				require.NoError(t, r.WithLease(ctx, "work", func(ctx context.Context, lease *repo.Lease) error {
					held++
					var other *repo.LeaseError
					require.ErrorAs(t, r.WithLease(ctx, "work", func(context.Context, *repo.Lease) error { return nil }), &other)
					return lease.Confirm(ctx)
				}))
				require.Equal(t, 1, held)
			}

			// What was archived is known again.
			content := waltest.Segment(segment, 7, 18)
			for range 2 {
				require.NoError(t, push(ctx, s, recipient, content))
			}
			other := bytes.Clone(content)
			other[9999]++
			var conflict *wal.ConflictError
			require.ErrorAs(t, push(ctx, s, recipient, other), &conflict)
			require.NoError(t, held(ctx, s, all, content))

			s = forBackup
			r, err = repo.Init(ctx, s, nil)
			require.NoError(t, err)
			cluster := backuptest.New(nil)
			taken, err := backup.Take(ctx, r, cluster, nil)
			require.NoError(t, err)
			pack := taken.PackList[0].Pack
			read := func() error { return r.ReadPack(ctx, pack, func(int, []byte) error { return nil }) }
			require.NoError(t, read())
			require.ErrorIs(t, write(ctx, s, pack.Key, []byte("another")), fs.ErrExist)
			require.NoError(t, read())

			// Retention says what it may not delete, and whose content it leaves alone then.
			_, err = backup.Take(ctx, r, cluster, nil)
			require.NoError(t, err)
			plan, err := retention.NewPlan(ctx, r, retention.Policy{KeepLast: 1}, nil)
			require.NoError(t, err)
			require.Len(t, plan.Drop, 1)
			if !l.versions {
				result, err := plan.Apply(ctx, r)
				require.NoError(t, err)
				require.Empty(t, result.Dropped)
				require.Equal(t, "backups/"+string(taken.ID), result.Refused[0].Key)
				require.NoError(t, read())
				sound(t, r)
			}

			err = s.Delete(ctx, pack.Key)
			if !l.versions {
				require.ErrorIs(t, err, repo.ErrRefused)
				require.NoError(t, read(), "it is as it was")
				require.NoError(t, s.Delete(ctx, pack.Key+"0"), "what is not there")
				return
			}
			require.NoError(t, err)
			require.ErrorIs(t, read(), fs.ErrNotExist)
			report, err := backup.Verify(ctx, r, nil)
			require.NoError(t, err)
			require.Equal(t, []backup.ID{taken.ID}, report.Lost.Backups, "%s", report)
			require.NotContains(t, keys(t, s, "packs/"), pack.Key)
			_, err = s.Stat(ctx, pack.Key)
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, s.Delete(ctx, pack.Key), "again")

			// The lock holds what was deleted.
			name := "else/" + pack.Key
			versions, err := server.Client().ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: aws.String(locked), Prefix: &name})
			require.NoError(t, err)
			require.Len(t, versions.Versions, 1)
			require.NotEmpty(t, versions.DeleteMarkers)
			_, err = server.Client().DeleteObject(ctx, &s3.DeleteObjectInput{
				Bucket: aws.String(locked), Key: &name, VersionId: versions.Versions[0].VersionId,
			})
			require.Error(t, err)
			for _, m := range versions.DeleteMarkers {
				_, err = server.Client().DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(locked), Key: &name, VersionId: m.VersionId})
				require.NoError(t, err)
			}
			require.NoError(t, read(), "without the markers it is there again")
			sound(t, r)
			result, err := plan.Apply(ctx, r)
			require.NoError(t, err)
			require.Equal(t, []backup.ID{taken.ID}, result.Dropped)
			require.Empty(t, result.Refused)
			require.ErrorIs(t, read(), fs.ErrNotExist)
			sound(t, r)
		})
	}
}

// sound verifies a repository.
func sound(t *testing.T, r *repo.Repo) {
	t.Helper()
	report, err := backup.Verify(t.Context(), r, &backup.VerifyOptions{ReadData: true, NoReceipt: true})
	require.NoError(t, err)
	require.True(t, report.OK(), "%s", report)
}
