//go:build cloud

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/url"
	"strings"

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
	// The SDK of AWS prints what it returns as an error.
	log.SetOutput(io.Discard)
	b, err := blob.OpenBucket(ctx, withDefaults(u).String()) // closed by the end of the process
	if err != nil {
		return nil, fmt.Errorf("open %s bucket %s: %w", u.Scheme, u.Host, err)
	}
	return bucket.New(b, &bucket.Options{Prefix: prefix}), nil
}

// withDefaults adds what a bucket's URL does not say. Every byte of a repository is covered by checksums of its own, so
// those of S3 need not be compared when it is read; with objects that were sent in parts they cannot be, and the SDK
// would print that each time.
func withDefaults(u *url.URL) *url.URL {
	const validation = "response_checksum_validation"
	q := u.Query()
	if u.Scheme != "s3" || q.Has(validation) {
		return u
	}
	q.Set(validation, "when_required")
	more := *u
	more.RawQuery = q.Encode()
	return &more
}

// isRefused matches the answer of an object store that knows neither bucket nor credentials: some of them call that "not
// found" too, which says nothing of an object then. The SDKs have no type for credentials that they cannot find.
func isRefused(err error) bool {
	code, status := gcerrors.Code(err), 0
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	switch {
	case code == gcerrors.PermissionDenied, status == http.StatusUnauthorized, status == http.StatusForbidden:
		return true
	case code == gcerrors.NotFound, status == http.StatusNotFound:
		return !errors.Is(err, fs.ErrNotExist)
	}
	return strings.Contains(err.Error(), "credentials")
}
