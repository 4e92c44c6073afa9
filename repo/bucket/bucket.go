// Package bucket keeps a repository in a bucket of gocloud.dev/blob: Amazon S3 and what speaks its protocol, Google
// Cloud Storage, Azure Blob Storage. It is a package of its own so that a program that keeps its repository elsewhere
// does not link gRPC and OpenTelemetry, which gocloud brings.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/pgcairn/pgcairn/internal/objerr"
	"github.com/pgcairn/pgcairn/repo"
)

// Options are the options of [New]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// Prefix is the folder of the bucket that the store is in, with or without a slash at its end. The default is the
	// whole bucket. It counts towards the length of the keys.
	Prefix string

	// BufferSize is how many bytes of an object a Writer holds in memory, to send them in one request; 40 MiB by
	// default. A larger object is sent in parts of this size (at least 5 MiB, as S3 demands) while it is being
	// written, and takes about three times as much memory. s3blob sends objects of 16 MiB or more in parts, maybe
	// in a single one, whatever is said here: that limit is its uploader's own.
	BufferSize int

	// BeforeWrite is called before each object is sent, with a function that gives access to the driver's own types:
	// storage class, Object Lock, metadata (see [blob.WriterOptions]). It must not touch the condition that the
	// object does not exist. It may be called from another goroutine, and by several at once.
	BeforeWrite func(asFunc func(any) bool) error
}

const (
	defaultBuffer = 40 << 20
	minPart       = 5 << 20

	// tries bounds what is done again because another process was in the way. It takes a fresh coincidence each time.
	tries = 10
)

// New returns a Store that keeps its objects in a bucket of gocloud.dev/blob: Amazon S3 and what speaks its
// protocol, Google Cloud Storage, Azure Blob Storage. The caller imports the driver, and closes the bucket when the
// Store is no longer used.
//
// Exclusive creation rests on the conditional writes of the service (If-None-Match and its likes), as [repo.Probe] tries.
// Never use it with fileblob, whose check for an existing file is no more than a check, and which syncs nothing to
// disk: [repo.OpenDir] is the Store for a directory. Credentials have to permit listing: for some drivers an unknown host or
// refused access is "not found" too, so that answer is believed only when a listing does not have the object either.
//
// Read bodies that break off are fetched again from where they broke, a few times, and so are pages of listings;
// [repo.Retry] is what outlasts an outage. The
// Info that Commit returns has no ModTime, since asking for it would take another request and the permission to read:
// Stat tells it.
//
// An upload in parts that is aborted by a killed process leaves its parts in the bucket: let a lifecycle rule of the
// bucket remove them.
func New(b *blob.Bucket, o *Options) repo.Store {
	s := &store{b: b}
	if o != nil {
		s.o = *o
	}
	if s.o.Prefix != "" && !strings.HasSuffix(s.o.Prefix, "/") {
		s.o.Prefix += "/"
	}
	if s.o.BufferSize <= 0 {
		s.o.BufferSize = defaultBuffer
	}
	return s
}

type store struct {
	b *blob.Bucket
	o Options
}

// name returns the name in the bucket of the object at key.
func (s *store) name(key string) (string, error) {
	if err := repo.CheckKey(key); err != nil {
		return "", err
	}
	if strings.Contains(key, "__0x") {
		return "", &repo.KeyError{Key: key, Reason: "holds __0x, which gocloud's drivers take for an escaped character in listings"}
	}
	if s.o.Prefix == "" {
		return key, nil
	}
	return s.o.Prefix + key, repo.CheckKey(s.o.Prefix + key)
}

func (s *store) Stat(ctx context.Context, key string) (repo.Info, error) {
	name, err := s.name(key)
	if err != nil {
		return repo.Info{}, err
	}
	info := repo.Info{Key: key}
	err = s.ask(ctx, "stat", key, func() error {
		a, err := s.b.Attributes(ctx, name)
		if err == nil {
			info.Size, info.ModTime = a.Size, a.ModTime
		}
		return err
	})
	if err != nil {
		return repo.Info{}, err
	}
	return info, nil
}

func (s *store) Delete(ctx context.Context, key string) error {
	name, err := s.name(key)
	if err != nil {
		return err
	}
	err = s.ask(ctx, "delete", key, func() error { return s.b.Delete(ctx, name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *store) List(ctx context.Context, prefix string) iter.Seq2[repo.Info, error] {
	return func(yield func(repo.Info, error) bool) {
		if err := s.list(ctx, prefix, yield); err != nil {
			yield(repo.Info{}, err)
		}
	}
}

func (s *store) list(ctx context.Context, prefix string, yield func(repo.Info, error) bool) error {
	if err := repo.CheckPrefix(prefix); err != nil {
		return err
	}
	if err := repo.CheckPrefix(s.o.Prefix + prefix); err != nil {
		return err
	}
	last, again := "", 0
	for it := s.b.List(&blob.ListOptions{Prefix: s.o.Prefix + askable(prefix)}); ; {
		if err := ctx.Err(); err != nil {
			return objerr.Failed(ctx, "list", prefix, err)
		}
		o, err := it.Next(ctx)
		if errors.Is(err, io.ErrUnexpectedEOF) && again < rereads {
			again++ // a page that broke off; the iterator asks for it again
			continue
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return objerr.Failed(ctx, "list", prefix, denial(err))
		}
		again = 0
		key := strings.TrimPrefix(o.Key, s.o.Prefix)
		if o.IsDir || repo.CheckKey(key) != nil {
			continue // a console's folder marker, or something else that is not ours
		}
		if key <= last {
			// So do S3's directory buckets. To go on would be to miss objects.
			return objerr.Failed(ctx, "list", prefix, fmt.Errorf("%q comes after %q: the bucket does not list in order of the keys",
				key, last))
		}
		last = key
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if !yield(repo.Info{Key: key, Size: o.Size, ModTime: o.ModTime}, nil) {
			return nil
		}
	}
}

// askable returns the prefix to ask for where those are wanted that begin with prefix. MinIO refuses prefixes that end
// in a dot for a name, though longer names begin with one.
func askable(prefix string) string {
	folder, name := path.Split(prefix)
	if name == "." || name == ".." {
		return folder
	}
	return prefix
}

// ask runs a request about the object at key and sorts its error into "it is not there" and "that could not be told".
//
// gocloud's NotFound does not do that: gcsblob says so of refused access, azureblob of a host name that does not
// resolve, all of them of a missing bucket. So what says NotFound has to be confirmed by a listing.
func (s *store) ask(ctx context.Context, op, key string, request func() error) error {
	if err := ctx.Err(); err != nil {
		return objerr.Failed(ctx, op, key, err)
	}
	var err error
	for range tries {
		if err = request(); err == nil {
			return nil
		}
		if ctx.Err() != nil || denied(err) || gcerrors.Code(err) != gcerrors.NotFound {
			return objerr.Failed(ctx, op, key, denial(err))
		}
		if serviceCode(err) == "NoSuchKey" {
			return objerr.Missing(op, key, err) // S3's own word for it, and for nothing else
		}
		there, listErr := s.listed(ctx, s.o.Prefix+key)
		if listErr != nil {
			return objerr.Failed(ctx, op, key, denial(fmt.Errorf("%w, but listing it failed: %w", err, listErr)))
		}
		if !there {
			return objerr.Missing(op, key, err)
		}
		// It was created in between: ask again.
	}
	return objerr.Failed(ctx, op, key, fmt.Errorf("not found, but listed: %w", err))
}

// listed tells whether a listing has the object of that name.
func (s *store) listed(ctx context.Context, name string) (bool, error) {
	// The name itself sorts before all others that begin with it.
	page, _, err := s.b.ListPage(ctx, blob.FirstPageToken, 1, &blob.ListOptions{Prefix: name})
	if err != nil {
		return false, err
	}
	return len(page) > 0 && page[0].Key == name, nil
}

// serviceCode returns the code that an S3 service gave an error, by the method that the AWS SDK's errors have; it is
// empty for other services.
func serviceCode(err error) string {
	var e interface{ ErrorCode() string }
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}
