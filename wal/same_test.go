package wal_test

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestSame(t *testing.T) {
	for _, kind := range kinds {
		var read atomic.Int64
		store := repo.Observe(held(t, kind), func(o repo.Op) { read.Add(o.Bytes) })
		a := openArchive(t, store, options(t, kind))
		other := content(segment(1))
		other[len(other)-1] ^= 1
		for name, tests := range map[string]map[bool][]byte{
			segment(1).Name():  {true: content(segment(1)), false: other},
			"00000002.history": {true: history, false: history[1:]},
			segment(2).Name():  {false: content(segment(2))},
		} {
			for want, b := range tests {
				read.Store(0)
				same, err := a.Same(t.Context(), parseName(t, name), bytes.NewReader(b), int64(len(b)))
				require.NoError(t, err)
				require.Equal(t, want, same, name)
				require.Less(t, read.Load(), int64(20_000))
			}
		}
		s := repotest.Faulty(store, repotest.Fault{Key: "wal/*/*/*/*", Do: repotest.Fail(nil)})
		_, err := openArchive(t, s, options(t, kind)).Same(t.Context(), parseName(t, segment(1).Name()), bytes.NewReader(other), 1)
		requireNoAnswer(t, err)
	}
}
