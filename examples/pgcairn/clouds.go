//go:build cloud

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	// The object stores that --repo knows besides directories.
	_ "gocloud.dev/blob/azureblob"
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"
)

// openBucket opens the folder prefix of a bucket.
func openBucket(ctx context.Context, u *url.URL, prefix string) (repo.Store, error) {
	b, err := blob.OpenBucket(ctx, u.String()) // closed by the end of the process
	if err != nil {
		return nil, fmt.Errorf("open %s bucket %s: %w", u.Scheme, u.Host, err)
	}
	return bucket.New(b, &bucket.Options{Prefix: prefix}), nil
}

// isRefused matches the answer of an object store that knows neither bucket nor credentials: some of them call that "not
// found" too, which says nothing of an object then.
func isRefused(err error) bool {
	code := gcerrors.Code(err)
	return code == gcerrors.PermissionDenied || code == gcerrors.NotFound && !errors.Is(err, fs.ErrNotExist)
}
