package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// BucketOptions are the options of [FromBucket]. A nil *BucketOptions, and the zero value of each field, is its default.
type BucketOptions struct {
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
)

// FromBucket returns a Store that keeps its objects in a bucket of gocloud.dev/blob: Amazon S3 and what speaks its
// protocol, Google Cloud Storage, Azure Blob Storage. The caller imports the driver, and closes the bucket when the
// Store is no longer used.
//
// Exclusive creation rests on the conditional writes of the service (If-None-Match and its likes), as [Probe] tries.
// Never use it with fileblob, whose check for an existing file is no more than a check, and which syncs nothing to
// disk: [OpenDir] is the Store for a directory. Credentials have to permit listing: for some drivers an unknown host or
// refused access is "not found" too, so that answer is believed only when a listing does not have the object either.
//
// Read bodies that break off are fetched again from where they broke, a few times. The Info that Commit returns has no
// ModTime, since asking for it would take another request and the permission to read: Stat tells it.
//
// An upload in parts that is aborted by a killed process leaves its parts in the bucket: let a lifecycle rule of the
// bucket remove them.
func FromBucket(b *blob.Bucket, o *BucketOptions) Store {
	s := &bucketStore{b: b}
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

type bucketStore struct {
	b *blob.Bucket
	o BucketOptions
}

// name returns the name in the bucket of the object at key.
func (s *bucketStore) name(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	if strings.Contains(key, "__0x") {
		return "", &KeyError{Key: key, Reason: "holds __0x, which gocloud's drivers take for an escaped character in listings"}
	}
	if s.o.Prefix == "" {
		return key, nil
	}
	return s.o.Prefix + key, checkKey(s.o.Prefix + key)
}

func (s *bucketStore) Stat(ctx context.Context, key string) (Info, error) {
	name, err := s.name(key)
	if err != nil {
		return Info{}, err
	}
	info := Info{Key: key}
	err = s.ask(ctx, "stat", key, func() error {
		a, err := s.b.Attributes(ctx, name)
		if err == nil {
			info.Size, info.ModTime = a.Size, a.ModTime
		}
		return err
	})
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

func (s *bucketStore) Delete(ctx context.Context, key string) error {
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

func (s *bucketStore) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := s.list(ctx, prefix, yield); err != nil {
			yield(Info{}, err)
		}
	}
}

func (s *bucketStore) list(ctx context.Context, prefix string, yield func(Info, error) bool) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	if err := checkPrefix(s.o.Prefix + prefix); err != nil {
		return err
	}
	last := ""
	for it := s.b.List(&blob.ListOptions{Prefix: s.o.Prefix + prefix}); ; {
		if err := ctx.Err(); err != nil {
			return failed(ctx, "list", prefix, err)
		}
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failed(ctx, "list", prefix, err)
		}
		key := strings.TrimPrefix(o.Key, s.o.Prefix)
		if o.IsDir || checkKey(key) != nil {
			continue // a console's folder marker, or something else that is not ours
		}
		if key <= last {
			// So do S3's directory buckets. To go on would be to miss objects.
			return failed(ctx, "list", prefix, fmt.Errorf("%q comes after %q: the bucket does not list in order of the keys",
				key, last))
		}
		last = key
		if !yield(Info{Key: key, Size: o.Size, ModTime: o.ModTime}, nil) {
			return nil
		}
	}
}

// ask runs a request about the object at key and sorts its error into "it is not there" and "that could not be told".
//
// gocloud's NotFound does not do that: gcsblob says so of refused access, azureblob of a host name that does not
// resolve, all of them of a missing bucket. So what says NotFound has to be confirmed by a listing.
func (s *bucketStore) ask(ctx context.Context, op, key string, request func() error) error {
	if err := ctx.Err(); err != nil {
		return failed(ctx, op, key, err)
	}
	var err error
	for range tries {
		if err = request(); err == nil {
			return nil
		}
		if ctx.Err() != nil || gcerrors.Code(err) != gcerrors.NotFound {
			return failed(ctx, op, key, err)
		}
		if serviceCode(err) == "NoSuchKey" {
			return missing(op, key, err) // S3's own word for it, and for nothing else
		}
		there, listErr := s.listed(ctx, s.o.Prefix+key)
		if listErr != nil {
			return failed(ctx, op, key, fmt.Errorf("%w, but listing it failed: %w", err, listErr))
		}
		if !there {
			return missing(op, key, err)
		}
		// It was created in between: ask again.
	}
	return failed(ctx, op, key, fmt.Errorf("not found, but listed: %w", err))
}

// listed tells whether a listing has the object of that name.
func (s *bucketStore) listed(ctx context.Context, name string) (bool, error) {
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
