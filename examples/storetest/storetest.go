// Package storetest runs real object stores of every kind for tests: versitygw and MinIO for S3, azurite for Azure Blob
// Storage, fake-gcs-server for Google Cloud Storage. Each is pinned in internal/tools and installed by make tools.
package storetest

import (
	"testing"

	"github.com/pgcairn/pgcairn/examples/s3test"
)

const bucketName = s3test.Bucket

// Service is an object store with an empty bucket, which lives until the end of the test.
type Service struct {
	URL string   // of the bucket, as blob.OpenBucket and --repo take it
	Env []string // the environment variables by which the SDKs find the service and the credentials
}

// Versity starts a versitygw.
func Versity(t testing.TB) Service { return Service{URL: s3test.Start(t).URL(), Env: s3test.Env()} }

// VersityLocked starts a versitygw whose bucket retains objects: Object Lock, in compliance mode.
func VersityLocked(t testing.TB) Service { return locked(t, s3test.Start(t)) }

// MinIOLocked starts a MinIO whose bucket retains objects.
func MinIOLocked(t testing.TB) Service { return locked(t, s3test.StartMinIO(t)) }

func locked(t testing.TB, s *s3test.Server) Service {
	t.Helper()
	const bucket = "locked"
	s.CreateLockedBucket(t, bucket)
	return Service{URL: s3test.BucketURL(s.Endpoint, bucket), Env: s3test.Env()}
}

// MinIO starts a MinIO.
func MinIO(t testing.TB) Service { return Service{URL: s3test.StartMinIO(t).URL(), Env: s3test.Env()} }
