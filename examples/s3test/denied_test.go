package s3test_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"google.golang.org/api/option"

	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
)

// TestRefused: what each service answers that does not permit a deletion is known through its SDK.
func TestRefused(t *testing.T) {
	t.Parallel()
	answer := func(status int, header, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodDelete {
				return // s3blob looks whether there is something to delete
			}
			w.Header().Set("X-Ms-Error-Code", header)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	s3 := func(url string) (*blob.Bucket, error) {
		return blob.OpenBucket(t.Context(), s3test.BucketURL(url, s3test.Bucket))
	}
	gcs := func(url string) (*blob.Bucket, error) {
		return gcsblob.OpenBucket(t.Context(), &gcp.HTTPClient{}, "bucket", &gcsblob.Options{ClientOptions: []option.ClientOption{
			option.WithEndpoint(url), option.WithHTTPClient(http.DefaultClient), option.WithoutAuthentication(),
		}})
	}
	azure := func(url string) (*blob.Bucket, error) {
		client, err := container.NewClientWithNoCredential(url+"/bucket", nil)
		if err != nil {
			return nil, err
		}
		return azureblob.OpenBucket(t.Context(), client, nil)
	}
	for _, tt := range []struct {
		name string
		open func(url string) (*blob.Bucket, error)
		url  string
	}{
		{"S3", s3, answer(403, "", "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")},
		{"S3 without a body", s3, answer(403, "", "")},
		{"MinIO", s3, answer(400, "", "<Error><Code>InvalidRequest</Code><Message>Object is WORM protected and cannot be overwritten</Message></Error>")},
		{"GCS", gcs, answer(403, "", `{"error":{"code":403,"message":"held","errors":[{"reason":"retentionPolicyNotMet"}]}}`)},
		{"GCS without a body", gcs, answer(403, "", "")},
		{"Azure, immutable", azure, answer(409, "BlobImmutableDueToPolicy", "")},
		{"Azure, permission", azure, answer(403, "AuthorizationPermissionMismatch", "")},
	} {
		b, err := tt.open(tt.url)
		require.NoError(t, err, tt.name)
		require.ErrorIs(t, bucket.New(b, nil).Delete(t.Context(), "a"), repo.ErrRefused, tt.name)
		require.NoError(t, b.Close())
	}
}
