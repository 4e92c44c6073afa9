package repo_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// keysAs is the report as somebody gets it.
func (s *safe) keysAs(t *testing.T, from ...person) []repo.Key {
	t.Helper()
	r, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, from[:1], from), Now: testNow})
	require.NoError(t, err)
	keys, err := r.Keys(t.Context())
	require.NoError(t, err)
	return keys
}

func TestKeys(t *testing.T) {
	a, b, c := newPerson(t), newPerson(t), newPerson(t)
	name := func(p person) string { return fmt.Sprint(p.to) }
	s := newSafe(t, 0, a)
	require.Empty(t, s.keysAs(t, a))
	s.write(t, a, b)

	keys := s.keysAs(t, b, c)
	require.Len(t, keys, 1)
	require.Equal(t, "keys/"+keys[0].ID+".age", keyOf(t, s.store, "objects/1"))
	require.True(t, keys[0].Readable)
	require.False(t, keys[0].Retired)
	require.Len(t, keys[0].Wrappings, 1)
	w := keys[0].Wrappings[0]
	require.False(t, w.CreatedAt.IsZero())
	w.CreatedAt = keys[0].Wrappings[0].CreatedAt
	require.Equal(t, repo.Wrapping{
		Object: "keys/" + keys[0].ID + ".age", CreatedAt: w.CreatedAt, Recipients: []string{name(a), name(b)}, Proven: true,
		Kinds: []string{"X25519", "X25519"}, Openers: []string{name(b)},
	}, w)

	// To a stranger it is the same, but nothing is proven.
	keys = s.keysAs(t, c)
	require.False(t, keys[0].Readable)
	w.Proven, w.Openers = false, []string{}
	require.Equal(t, []repo.Wrapping{w}, keys[0].Wrappings)

	// What was superseded and not deleted comes last, and still counts.
	appendOnly := repotest.Faulty(s.store, repotest.Fault{Op: repotest.OpDelete, Do: repotest.Fail(fs.ErrPermission)})
	_, err := rotate(t.Context(), t, appendOnly, []person{c}, []person{a, c}, testNow)
	require.NoError(t, err)
	keys = s.keysAs(t, b)
	require.Len(t, keys[0].Wrappings, 2)
	require.Equal(t, []string{name(c)}, keys[0].Wrappings[0].Recipients)
	require.False(t, keys[0].Wrappings[0].Proven)
	require.True(t, keys[0].Wrappings[1].Proven)
	require.True(t, keys[0].Readable)
}

// Whoever can write to the store can plant names; the report does not vouch for them.
func TestKeysPlanted(t *testing.T) {
	a, evil := newPerson(t), newPerson(t)
	s := newSafe(t, 1, a)
	id := s.keysAs(t, a)[0].ID
	_, another, err := cipherOfThem(t, []person{a}, nil).NewKey()
	require.NoError(t, err)
	_, forEvil, err := cipherOfThem(t, []person{evil}, nil).NewKey()
	require.NoError(t, err)
	header := string(forEvil[:strings.Index(string(forEvil), "\n---")])
	storeBytes(t, s.store, "keys/"+id+".00000001.age", another)                    // another key, which a opens
	storeBytes(t, s.store, "keys/"+id+".00000002.age", forEvil)                    // one that a does not open
	storeBytes(t, s.store, "keys/"+id+".00000003.age", []byte(header+"\n--- x\n")) // a header that is none
	storeBytes(t, s.store, "keys/"+id+".00000004.age", make([]byte, 1<<20+1))      // too large to be one
	storeBytes(t, s.store, "keys/"+id+".retired", []byte("whatever is in it"))     // counts by being there
	keys := s.keysAs(t, a)
	require.Len(t, keys, 1)
	require.True(t, keys[0].Retired)
	require.True(t, keys[0].Readable)
	require.Len(t, keys[0].Wrappings, 5)
	for i, want := range []struct {
		problem string
		proven  bool
	}{
		{"larger than", false}, {"malformed", false}, {"", false}, {"it holds another key", false}, {"", true},
	} {
		w := keys[0].Wrappings[i]
		require.Equal(t, want.proven, w.Proven, w.Object)
		if want.problem == "" {
			require.Empty(t, w.Problem)
		} else {
			require.Contains(t, w.Problem, want.problem)
		}
	}
}

// An outage is an error, and no report of fewer keys.
func TestKeysOutage(t *testing.T) {
	a := newPerson(t)
	s := newSafe(t, 2, a)
	for n := 1; ; n++ {
		faulty := repotest.Faulty(s.store, repotest.Fault{Nth: n})
		r, err := repo.Open(t.Context(), faulty, &repo.Options{Cipher: cipherOfThem(t, nil, []person{a})})
		var keys []repo.Key
		if err == nil {
			keys, err = r.Keys(t.Context())
		}
		if faulty.Struck() == 0 {
			require.NoError(t, err)
			require.Len(t, keys, 2)
			return
		}
		requireOutage(t, err)
		require.Nil(t, keys)
	}
}
