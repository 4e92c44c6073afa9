package repo_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"gocloud.dev/blob/memblob"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestFromBucket(t *testing.T) {
	for name, o := range map[string]*repo.BucketOptions{
		"defaults":     nil,
		"small buffer": {BufferSize: 100},
		"prefix":       {Prefix: "some/where"},
	} {
		t.Run(name, func(t *testing.T) {
			repotest.TestStore(t, func(t *testing.T) repo.Store {
				b := memblob.OpenBucket(nil)
				t.Cleanup(func() { assert.NoError(t, b.Close()) })
				return repo.FromBucket(b, o)
			})
		})
	}
}
