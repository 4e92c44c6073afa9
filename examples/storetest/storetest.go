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

// MinIO starts a MinIO.
func MinIO(t testing.TB) Service { return Service{URL: s3test.StartMinIO(t).URL(), Env: s3test.Env()} }
