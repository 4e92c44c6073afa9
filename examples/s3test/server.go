// Package s3test runs real S3 servers for tests, versitygw and MinIO on a temporary directory, and puts a proxy before
// them that does to requests what networks and services do.
package s3test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/pgcairn/pgcairn/examples/internal/testserver"
)

// Credentials of the servers. Nothing that a program prints may have the secret in it.
const (
	AccessKey = "s3test"
	SecretKey = "a-secret-that-nobody-may-print"
)

// Bucket is the bucket that a server has.
const Bucket = "bucket"

const region = "us-east-1"

// Server is an S3 server. One goroutine at a time may start and stop it.
type Server struct {
	*testserver.Server
}

// Start starts a versitygw with an empty bucket. It is stopped after the test.
func Start(t testing.TB) *Server {
	t.Helper()
	dir := t.TempDir()
	root, versions := filepath.Join(dir, "root"), filepath.Join(dir, "versions")
	for _, d := range []string{filepath.Join(root, Bucket), versions} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatalf("s3test: %v", err)
		}
	}
	return &Server{testserver.Start(t, testserver.Program{
		Path: testserver.Tool(t, "versitygw"),
		Args: func(address string) []string {
			return []string{"--port", address, "--region", region, "--keep-alive", "--quiet", "posix", "--versioning-dir", versions, root}
		},
		Env: []string{"ROOT_ACCESS_KEY_ID=" + AccessKey, "ROOT_SECRET_ACCESS_KEY=" + SecretKey},
	})}
}

// StartMinIO starts a MinIO with an empty bucket. It is stopped after the test.
func StartMinIO(t testing.TB) *Server {
	t.Helper()
	return startMinIO(t)
}

// StartMinIOWith starts a MinIO that believes the tokens of those that an [IdentityProvider] knows.
func StartMinIOWith(t testing.TB, p *IdentityProvider) *Server {
	t.Helper()
	return startMinIO(t, p.env()...)
}

func startMinIO(t testing.TB, env ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{testserver.Start(t, testserver.Program{
		Path: testserver.Tool(t, "minio"),
		Args: func(address string) []string {
			return []string{"server", "--quiet", "--address", address, filepath.Join(dir, "root")}
		},
		Env: append([]string{
			"HOME=" + dir, "MINIO_ROOT_USER=" + AccessKey, "MINIO_ROOT_PASSWORD=" + SecretKey, "MINIO_SITE_REGION=" + region,
			"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=on",
			"MINIO_KMS_SECRET_KEY=" + KMSKey + ":bWluaW8ta21zLXNlY3JldC1rZXktZm9yLXRlc3RzISE=",
		}, env...),
		Ready: "/minio/health/ready",
	})}
	s.CreateBucket(t, Bucket, false)
	return s
}

// KMSKey is the id of the key that a MinIO encrypts with for those who ask for it.
const KMSKey = "kms-key"

// CreateBucket creates a bucket; one with Object Lock keeps versions, too.
func (s *Server) CreateBucket(t testing.TB, name string, objectLock bool) {
	t.Helper()
	_, err := s.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: &objectLock})
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
}

// CreateLockedBucket creates a bucket whose objects are retained for a day, which nobody can shorten.
func (s *Server) CreateLockedBucket(t testing.TB, name string) {
	t.Helper()
	s.CreateBucket(t, name, true)
	_, err := s.Client().PutObjectLockConfiguration(t.Context(), &s3.PutObjectLockConfigurationInput{
		Bucket: &name,
		ObjectLockConfiguration: &types.ObjectLockConfiguration{
			ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{
				Mode: types.ObjectLockRetentionModeCompliance, Days: aws.Int32(1),
			}},
		},
	})
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
}

// Client is a client who may do everything, past all of pgcairn.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint,
		UsePathStyle: true,
		Region:       region,
		Credentials:  aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, "")),
	})
}

// Keys are the names of all objects in a bucket, in their order.
func (s *Server) Keys(t testing.TB, bucket string) []string {
	t.Helper()
	var keys []string
	for p := s3.NewListObjectsV2Paginator(s.Client(), &s3.ListObjectsV2Input{Bucket: &bucket}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatalf("s3test: %v", err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys
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
