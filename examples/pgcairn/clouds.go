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
	"os"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"gocloud.dev/gcp"

	// The object stores that --repo knows besides directories.
	_ "gocloud.dev/blob/azureblob"
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"
)

// openBucket opens the folder prefix of a bucket.
func openBucket(ctx context.Context, u *url.URL, prefix string) (repo.Store, error) {
	// The SDK of AWS prints what it returns as an error.
	log.SetOutput(io.Discard)
	plain := *u
	q := u.Query()
	objects, err := takeParameters(u.Scheme, prefix, q)
	if err != nil {
		return nil, err
	}
	if err := trust(u.Scheme, q); err != nil {
		return nil, err
	}
	plain.RawQuery = q.Encode()
	b, err := openQuietly(ctx, withDefaults(&plain)) // closed by the end of the process
	if err != nil {
		return nil, unopened(u, err)
	}
	return bucket.New(b, &bucket.Options{Prefix: prefix, BeforeWrite: objects.beforeWrite}), nil
}

// trust has the SDK trust the certificates in the file of ca=, and no others.
func trust(scheme string, q url.Values) error {
	if !q.Has(paramCA) {
		return nil
	}
	file := q.Get(paramCA)
	q.Del(paramCA)
	if scheme != "s3" {
		return usage("--repo: only s3 URLs have ca=: set SSL_CERT_FILE")
	}
	if _, err := os.Stat(file); err != nil {
		return usage(fmt.Sprintf("--repo: ca=: %v", err))
	}
	return os.Setenv("AWS_CA_BUNDLE", file) // the only way that gocloud leaves; a role's tokens come by it, too
}

// openQuietly opens a bucket without a word on stdout. Where gocloud finds no credentials of Google's it prints that,
// even if none are wanted, and goes on with some that no service takes.
func openQuietly(ctx context.Context, u *url.URL) (*blob.Bucket, error) {
	if u.Scheme != "gs" {
		return blob.OpenBucket(ctx, u.String())
	}
	emulated := os.Getenv("STORAGE_EMULATOR_HOST") != "" || os.Getenv("STORAGE_EMULATOR_HOST_GRPC") != ""
	if q := u.Query(); !emulated && q.Get("access_id") != "-" && !q.Has("anonymous") {
		if _, err := gcp.DefaultCredentials(ctx); err != nil {
			return nil, err
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	stdout := os.Stdout
	os.Stdout = null
	defer func() { os.Stdout = stdout }()
	return blob.OpenBucket(ctx, u.String())
}

// unopened is the error of a bucket that could not be opened. A file of credentials that is missing says nothing of the
// repository, so fs.ErrNotExist must not be inside.
func unopened(u *url.URL, err error) error {
	return fmt.Errorf("open %s bucket %s, or find credentials for it: %v", u.Scheme, u.Host, err) //nolint:errorlint // see above
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
