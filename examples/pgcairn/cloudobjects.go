//go:build cloud

package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	s3types "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
)

// Parameters of a bucket's URL that gocloud does not have.
const (
	paramStorageClass = "storage_class"
	paramLockMode     = "object_lock_mode"
	paramLockDays     = "object_lock_days"
	paramChecksum     = "checksum"
	paramCA           = "ca"
)

const maxLockDays = 36500 // as S3's own

// objectOptions is what objects are sent with.
type objectOptions struct {
	prefix       string // of the repository in the bucket
	storageClass string
	lockMode     s3types.ObjectLockMode // none when empty
	lockFor      time.Duration
	checksum     s3types.ChecksumAlgorithm
	now          func() time.Time
}

// takeParameters takes those of our parameters out of a query that are about objects.
func takeParameters(scheme, prefix string, q url.Values) (*objectOptions, error) {
	o := &objectOptions{prefix: prefix, now: time.Now}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		o.prefix += "/"
	}
	take := func(name string, schemes ...string) (string, error) {
		value := q.Get(name)
		if q.Has(name) && !slices.Contains(schemes, scheme) {
			return "", usage(fmt.Sprintf("--repo: %s URLs have no parameter %q", scheme, name))
		}
		if q.Has(name) && value == "" {
			return "", usage(fmt.Sprintf("--repo: %s= has no value", name))
		}
		q.Del(name)
		return value, nil
	}
	var mode, days, checksum string
	for _, p := range []struct {
		name    string
		value   *string
		schemes []string
	}{
		{paramStorageClass, &o.storageClass, []string{"s3", "gs"}},
		{paramLockMode, &mode, []string{"s3"}},
		{paramLockDays, &days, []string{"s3"}},
		{paramChecksum, &checksum, []string{"s3"}},
	} {
		var err error
		if *p.value, err = take(p.name, p.schemes...); err != nil {
			return nil, err
		}
	}
	if (mode == "") != (days == "") {
		return nil, usage("--repo: object_lock_mode= and object_lock_days= belong together")
	}
	if mode != "" {
		o.lockMode = s3types.ObjectLockMode(strings.ToUpper(mode))
		if o.lockMode != s3types.ObjectLockModeGovernance && o.lockMode != s3types.ObjectLockModeCompliance {
			return nil, usage("--repo: object_lock_mode= is governance or compliance")
		}
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > maxLockDays {
			return nil, usage(fmt.Sprintf("--repo: object_lock_days= is a number of days, 1 to %d", maxLockDays))
		}
		o.lockFor = time.Duration(n) * 24 * time.Hour
	}
	if checksum != "" {
		o.checksum = s3types.ChecksumAlgorithm(strings.ToUpper(checksum))
		if all := []s3types.ChecksumAlgorithm{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"}; !slices.Contains(all, o.checksum) {
			return nil, usage(fmt.Sprintf("--repo: checksum= is one of %v", all))
		}
	}
	return o, nil
}

// beforeWrite is for bucket.Options. Leases and probes go again within minutes: they are neither locked, nor in a
// storage class that costs a month of storage at least.
func (o *objectOptions) beforeWrite(as func(any) bool) error {
	var toS3 *transfermanager.UploadObjectInput
	if as(&toS3) {
		if o.checksum != "" {
			toS3.ChecksumAlgorithm = o.checksum
		}
		if o.passing(*toS3.Key) {
			return nil
		}
		toS3.StorageClass = s3types.StorageClass(o.storageClass)
		if o.lockMode != "" {
			until := o.now().Add(o.lockFor)
			toS3.ObjectLockMode, toS3.ObjectLockRetainUntilDate = o.lockMode, &until
		}
		return nil
	}
	var toGCS *storage.Writer
	if o.storageClass != "" && as(&toGCS) && !o.passing(toGCS.Name) {
		toGCS.StorageClass = o.storageClass
	}
	return nil
}

// passing tells whether an object is one that goes again soon.
func (o *objectOptions) passing(name string) bool {
	key := strings.TrimPrefix(name, o.prefix)
	return strings.HasPrefix(key, "leases/") || strings.HasPrefix(key, "probe/") || strings.HasPrefix(key, "dropped/")
}
