package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
)

// companion is the name of this program when it has the SDKs of the clouds in it.
const companion = "pgcairn-cloud"

// location is where a repository is.
type location struct {
	dir    string   // a directory, or else
	bucket *url.URL // a bucket,
	prefix string   // and the folder in it
}

// parseLocation parses --repo.
func parseLocation(s string) (location, error) {
	if s == "" {
		return location{}, usage("no repository given: use --repo or PGCAIRN_REPO")
	}
	if !strings.Contains(s, "://") {
		dir, err := filepath.Abs(s)
		return location{dir: dir}, err
	}
	u, err := url.Parse(s)
	if err != nil {
		return location{}, &usageError{fmt.Errorf("--repo: %w", err)}
	}
	if u.User != nil {
		return location{}, usage("--repo: credentials do not belong in the URL: the SDKs find them in the environment, as AWS_ACCESS_KEY_ID")
	}
	q := u.Query()
	prefix := q.Get("prefix")
	q.Del("prefix")
	u.RawQuery = q.Encode()
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return location{}, usage("--repo: a file URL has an absolute path and no host: file:///path")
		}
		if len(q) > 0 {
			return location{}, usage(fmt.Sprintf("--repo: a file URL has no parameter %q", slices.Sorted(maps.Keys(q))[0]))
		}
		return location{dir: filepath.Join(u.Path, filepath.FromSlash(prefix))}, nil
	case "s3", "gs", "azblob":
		return location{bucket: u, prefix: prefix}, nil
	}
	return location{}, usage(fmt.Sprintf("--repo: unknown scheme %q: use a path, or file, s3, gs or azblob", u.Scheme))
}

// open opens the store. Only create makes a directory that is not there: otherwise a file system that is not mounted
// would look like an empty store.
func (l location) open(ctx context.Context, create bool) (repo.Store, error) {
	if l.bucket == nil {
		return repo.OpenDir(l.dir, &repo.DirOptions{MustExist: !create})
	}
	return openBucket(ctx, l.bucket, l.prefix)
}

// String is the location as --repo takes it, whatever the working directory.
func (l location) String() string {
	if l.bucket == nil {
		return l.dir
	}
	u := *l.bucket
	if l.prefix != "" {
		q := u.Query()
		q.Set("prefix", l.prefix)
		u.RawQuery = q.Encode()
	}
	return u.String()
}
