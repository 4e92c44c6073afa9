package s3test_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob" // what is tested

	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
)

// TestMain sets the credentials as those who use the URLs of gocloud do.
func TestMain(m *testing.M) {
	for _, v := range s3test.Env() {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// openStore opens the bucket of an endpoint until the test ends.
func openStore(t testing.TB, endpoint string, o *bucket.Options) repo.Store {
	t.Helper()
	b, err := blob.OpenBucket(t.Context(), s3test.BucketURL(endpoint, s3test.Bucket))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.Close()) })
	return bucket.New(b, o)
}
