package repo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// Whether what is encrypted to a key is as what is written now is told by its last wrapping, and by what was done with it.
func TestUseOfKey(t *testing.T) {
	a, b, c := newPerson(t), newPerson(t), newPerson(t)
	s := newSafe(t, 1, a, b)
	key := keyOf(t, s.store, "objects/1")
	use := func(to ...person) repo.KeyUse {
		t.Helper()
		r, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, to, nil), Now: testNow})
		require.NoError(t, err)
		u, err := r.UseOfKey(t.Context(), key)
		require.NoError(t, err)
		return u
	}
	for _, x := range []struct {
		name       string
		to         []person
		same, lost bool
	}{
		{"the same, in another order", []person{b, a}, true, false},
		{"fewer", []person{a}, false, false},
		{"more", []person{a, b, c}, false, true},
		{"others", []person{c}, false, true},
	} {
		u := use(x.to...)
		require.Equal(t, !x.same, u.Strange(), x.name)
		require.Equal(t, x.lost, u.Lost(), x.name)
	}

	rotated, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, []person{c}, []person{a, c}), Now: testNow})
	require.NoError(t, err)
	_, err = rotated.RotateKeys(t.Context())
	require.NoError(t, err)
	require.False(t, use(c).Strange())
	require.True(t, use(a, b).Lost())
	_, err = rotated.RetireKeys(t.Context())
	require.NoError(t, err)
	require.True(t, use(c).Retired)
	require.True(t, use(c).Strange())
	require.False(t, use(c).Lost(), "it is read as before")

	for _, object := range storedKeys(t, s.store, "keys/") {
		require.NoError(t, s.store.Delete(t.Context(), object))
	}
	require.True(t, use(c).Missing)
	require.True(t, use(c).Lost())
	plain, err := repo.Init(t.Context(), newRig(t, false).store, nil)
	require.NoError(t, err)
	_, err = plain.UseOfKey(t.Context(), key)
	require.ErrorIs(t, err, repo.ErrNotEncrypted)
}
