package repo_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// A host that has the data key in its state directory, and one that has it in memory, write with another one: at once
// the next process, within five minutes the one that is at it. Who has the retired key then opens nothing new with it.
func TestRetireKeys(t *testing.T) {
	a := newPerson(t)
	s := newSafe(t, 0, a)
	clock := testTime
	lists := 0
	counted := repo.Observe(s.store, func(op repo.Op) {
		if op.Name == "list" {
			lists++
		}
	})
	o := repo.Options{Cipher: cipherOfThem(t, []person{a}, nil), StateDir: t.TempDir(), Now: func() time.Time { return clock }}
	open, err := repo.Open(t.Context(), counted, &o)
	require.NoError(t, err)
	n := 0
	write := func() string {
		n++
		key := fmt.Sprint("objects/", n)
		_, err := put(t.Context(), open, key, "", []byte("content"))
		require.NoError(t, err)
		return keyOf(t, s.store, key)
	}
	first := write()
	secret := stored(t, s.store)[first] // what somebody has kept
	require.Equal(t, first, write())
	clock = clock.Add(5*time.Minute - 1)
	require.Equal(t, first, write())
	require.Zero(t, lists, "it does not ask for each object")

	retired, err := open.RetireKeys(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{strings.TrimSuffix(strings.TrimPrefix(first, "keys/"), ".age")}, retired)
	lists = 0
	require.Equal(t, first, write(), "it need not have noticed yet")
	process(t, s.store, "another process", o)
	second := keyOf(t, s.store, "another process")
	require.NotEqual(t, first, second)
	clock = clock.Add(1)
	require.Equal(t, second, write(), "five minutes later it has, and shares the key of the other process")
	require.Equal(t, second, write())
	require.Equal(t, 2, lists, "of the one, and of the other")
	process(t, s.store, "a third process", o)
	require.Equal(t, second, keyOf(t, s.store, "a third process"))

	// A clock that was set back does not make five minutes last for ever.
	_, err = open.RetireKeys(t.Context())
	require.NoError(t, err)
	clock = clock.Add(-24 * time.Hour)
	third := write()
	require.NotEqual(t, second, third)
	require.Len(t, storedKeys(t, s.store, "keys/"), 5, "three keys and two marks")

	// The data key that was kept opens what it did, and no more.
	_, opened, err := cipherOfThem(t, nil, []person{a}).OpenKey(secret)
	require.NoError(t, err)
	for key, yes := range map[string]bool{"objects/1": true, "another process": false, fmt.Sprint("objects/", n): false} {
		_, err := cipherOfThem(t, nil, []person{a}).Decrypt(bytes.NewReader(storedBytes(t, s.store, key)), opened)
		require.Equal(t, yes, err == nil, key)
	}
	require.Equal(t, n, s.readable(t, a), "with the identity, all")
}

// Again, after being cut short at any call, and with keys that were rotated.
func TestRetireKeysAgain(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	for _, effect := range []repotest.Effect{repotest.Fail(nil), repotest.FailAfter(nil), repotest.Cut(1)} {
		for n := 1; ; n++ {
			s := newSafe(t, 2, a)
			_, err := rotate(t.Context(), t, s.store, []person{b}, []person{a, b}, testNow)
			require.NoError(t, err)
			s.write(t, a)
			fault := repotest.Fault{Nth: n, Do: effect}
			if effect == repotest.Cut(1) {
				fault.Op = repotest.OpList
			}
			faulty := repotest.Faulty(s.store, fault)
			r, err := repo.Open(t.Context(), faulty, &repo.Options{Cipher: writeOnly(t), Now: testNow})
			if err == nil {
				_, err = r.RetireKeys(t.Context())
			}
			if faulty.Struck() == 0 {
				require.NoError(t, err)
				break
			}
			if err != nil {
				require.ErrorIs(t, err, repotest.ErrInjected)
			}
			r, err = repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, nil, []person{a}), Now: testNow})
			require.NoError(t, err)
			_, err = r.RetireKeys(t.Context())
			require.NoError(t, err)
			keys, err := r.Keys(t.Context())
			require.NoError(t, err)
			require.Len(t, keys, 3)
			for _, key := range keys {
				require.True(t, key.Retired)
			}
			retired, err := r.RetireKeys(t.Context())
			require.NoError(t, err)
			require.Empty(t, retired)
			require.Equal(t, 3, s.readable(t, a, b))
		}
	}
}

// A host that could not ask does not write with a key that may be retired; nor does it make one for nothing.
func TestRetiredKeyOutage(t *testing.T) {
	a := newPerson(t)
	s := newSafe(t, 0, a)
	clock := testTime
	down := &at{Store: s.store, do: func() error { return repotest.ErrInjected }}
	var log bytes.Buffer
	r, err := repo.Open(t.Context(), down, &repo.Options{
		Cipher: cipherOfThem(t, []person{a}, nil), Now: func() time.Time { return clock }, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, err)
	_, err = put(t.Context(), r, "objects/1", "", nil)
	require.NoError(t, err)
	clock = clock.Add(time.Hour)
	down.n = 1
	_, err = r.DataKey(t.Context())
	requireOutage(t, err)
	_, err = r.RetireKeys(t.Context())
	require.NoError(t, err)
	_, err = put(t.Context(), r, "objects/2", "", nil)
	require.NoError(t, err)
	require.NotEqual(t, keyOf(t, s.store, "objects/1"), keyOf(t, s.store, "objects/2"))
	require.Contains(t, log.String(), "retired")
}

// The state of a host, and the keys, are those of versions that know nothing of rotations: it goes on with its data key,
// though wrapping 0 is gone.
func TestRotatedKeyOfOldState(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	s := newSafe(t, 0, a)
	o := repo.Options{Cipher: cipherOfThem(t, []person{a}, nil), StateDir: t.TempDir()}
	process(t, s.store, "objects/1", o)
	_, err := rotate(t.Context(), t, s.store, []person{b}, []person{a, b}, testNow)
	require.NoError(t, err)
	require.Empty(t, storedKeys(t, s.store, keyOf(t, s.store, "objects/1")))
	process(t, s.store, "objects/2", o)
	require.Equal(t, keyOf(t, s.store, "objects/1"), keyOf(t, s.store, "objects/2"))

	// Told of the new recipients, it makes a new key for them, which the old data key does not open.
	o.Cipher = cipherOfThem(t, []person{b}, nil)
	process(t, s.store, "objects/3", o)
	require.NotEqual(t, keyOf(t, s.store, "objects/1"), keyOf(t, s.store, "objects/3"))
}
