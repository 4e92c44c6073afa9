package bucket_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gocloud.dev/gcerrors"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
)

// What a service does not permit is told from an outage, by the words that each has for it.
func TestBucketRefused(t *testing.T) {
	tests := []struct {
		name    string
		err     error
		refused bool
	}{
		{"S3", coded{s3Error("AccessDenied"), gcerrors.PermissionDenied}, true},
		{"MinIO's Object Lock", s3Error("InvalidRequest: Object is WORM protected and cannot be overwritten"), true},
		{"GCS, which gocloud takes for not found", notFound("googleapi: Error 403: retention policy, retentionPolicyNotMet"), true},
		{"GCS without a body", notFound("googleapi: got HTTP response code 403 with body: "), true},
		{"Azure's immutable blobs", errors.New("...\nRESPONSE 409: 409 Conflict\nERROR CODE: BlobImmutableDueToPolicy\n... and so on"), true},
		{"Azure's roles", errors.New("...\nRESPONSE 403: 403\nERROR CODE: AuthorizationPermissionMismatch\n... and so on"), true},
		{"a busy service", s3Error("SlowDown"), false},
		{"a busy GCS", coded{errors.New("googleapi: Error 429: too many"), gcerrors.ResourceExhausted}, false},
		{"a busy GCS, in old words", notFound("googleapi: Error 403: slow down, userRateLimitExceeded"), false},
		{"no such bucket", notFound("NoSuchBucket"), false},
		{"an outage", errors.New("connection refused"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &scripted{objects: map[string][]byte{"a": []byte("data")}}
			deny := func(string) error { return tt.err }
			d.remove, d.attributes, d.list, d.upload = deny, deny, deny, deny
			s := bucket.New(d.bucket(), nil)
			check := func(err error) {
				requireNoAnswer(t, err)
				assert.Equal(t, tt.refused, errors.Is(err, repo.ErrRefused), "%v", err)
				require.ErrorIs(t, err, tt.err, "the driver's error is inside")
			}
			check(s.Delete(t.Context(), "a"))
			if tt.refused {
				assert.Equal(t, []string{"DELETE a"}, d.log, "asked once")
			}
			_, err := s.Stat(t.Context(), "a")
			check(err)
			for _, err := range s.List(t.Context(), "") {
				check(err)
			}
			check(writeObject(s, "b", "data"))
		})
	}
}

// answered is an S3 error with the status of the answer.
type answered struct {
	s3Error
	status int
}

func (e answered) HTTPStatusCode() int { return e.status }

// refresh is how the AWS SDK wraps the answer of another service, which it has asked for credentials.
func refresh(err error) error {
	return fmt.Errorf("get identity: get credentials: failed to refresh cached credentials, %w", err)
}

// What a service will answer again and again is not asked again; an outage is.
func TestBucketRetry(t *testing.T) {
	tests := []struct {
		err  error
		vain bool
	}{
		{answered{"SignatureDoesNotMatch", 403}, true},
		{answered{"InvalidAccessKeyId", 403}, true},
		{coded{answered{"NoSuchBucket", 404}, gcerrors.NotFound}, true},
		{coded{answered{"AccessDenied", 403}, gcerrors.PermissionDenied}, true},
		{&tls.CertificateVerificationError{Err: errors.New("unknown authority")}, true},
		{answered{"SlowDown", 503}, false},
		{answered{"TooManyRequests", 429}, false},
		{answered{"RequestTimeout", 400}, false},
		{answered{"InternalError", 500}, false},
		{refresh(answered{"IDPCommunicationError", 400}), false},
		{refresh(answered{"ExpiredTokenException", 400}), false},
		{refresh(answered{"InvalidIdentityToken", 400}), true},
		{errors.New("connection refused"), false},
	}
	for _, tt := range tests {
		t.Run(tt.err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &scripted{}
				fail := func(string) error { return tt.err }
				d.list, d.attributes = fail, fail
				d.upload = fail
				s := repo.Retry(bucket.New(d.bucket(), nil), nil)
				start := time.Now()
				_, err := s.Stat(t.Context(), "a")
				requireNoAnswer(t, err)
				requireNoAnswer(t, writeObject(s, "a", "data"))
				for _, err := range s.List(t.Context(), "") {
					requireNoAnswer(t, err)
				}
				assert.Equal(t, tt.vain, time.Since(start) == 0)
			})
		})
	}
}

// An upload is sent once more out of the buffer, and each time is seen; what is larger is given up.
func TestBucketRetriesUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, left := &scripted{}, 2
		d.upload = func(string) error {
			if left--; left >= 0 {
				return errors.New("connection reset by peer")
			}
			return nil
		}
		var ops []repo.Op
		b := bucket.New(d.bucket(), &bucket.Options{BufferSize: 10})
		s := repo.Retry(repo.Observe(b, func(op repo.Op) { ops = append(ops, op) }), nil)
		require.NoError(t, writeObject(s, "a", "0123456789"))
		assert.Equal(t, "0123456789", string(d.objects["a"]))
		require.Len(t, ops, 3)
		for i, op := range ops {
			assert.Equal(t, int64(10), op.Bytes)
			assert.Equal(t, i < 2, op.Err != nil, i)
			assert.Zero(t, op.Took, "without the wait")
		}

		left = 1
		start := time.Now()
		requireNoAnswer(t, writeObject(s, "b", "more than the buffer"))
		assert.Zero(t, time.Since(start))

		// Its answer is lost, and what was written is there: whoever wrote it compares.
		d.upload = func(name string) error {
			d.objects[name] = []byte("data")
			return errors.New("connection reset by peer")
		}
		require.ErrorIs(t, writeObject(s, "c", "data"), fs.ErrExist)
	})
}
