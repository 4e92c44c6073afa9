package crypto_test

import (
	"fmt"
	"io/fs"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
)

func TestWrapKey(t *testing.T) {
	classic, pq, device := x25519(t), hybrid(t), pair{&plugin{mask: 3}, &plugin{mask: 3}}
	for name, tt := range map[string]struct {
		from  pair
		to    []pair
		kinds []string
	}{
		"to another":             {classic, []pair{x25519(t)}, []string{"X25519"}},
		"to several":             {classic, []pair{x25519(t), device}, []string{"X25519", "example.com/xor"}},
		"from post-quantum":      {pq, []pair{classic}, []string{"X25519"}},
		"to post-quantum":        {classic, []pair{pq, hybrid(t)}, []string{"mlkem768x25519", "mlkem768x25519"}},
		"to the same, once more": {classic, []pair{classic}, []string{"X25519"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := newAge(t, []age.Recipient{tt.from.to}, []age.Identity{tt.from.from})
			public, secret := dataKey(t, before)
			var to []age.Recipient
			var names []string
			for _, p := range tt.to {
				to, names = append(to, p.to), append(names, fmt.Sprint(p.to))
			}
			wrapped, err := newAge(t, to, nil).WrapKey(secret)
			require.NoError(t, err)
			for _, p := range tt.to {
				gotPublic, gotSecret, err := newAge(t, nil, []age.Identity{p.from}).OpenKey(wrapped)
				require.NoError(t, err)
				require.Equal(t, []string{public, secret}, []string{gotPublic, gotSecret})
			}
			recipients, kinds, err := before.KeyHeader(wrapped)
			require.NoError(t, err)
			require.Equal(t, names, recipients)
			require.Equal(t, tt.kinds, kinds)
		})
	}
	writer := newAge(t, []age.Recipient{classic.to}, nil)
	for _, secret := range []string{"", "AGE-SECRET-KEY-1NONSENSE", "AGE-SECRET-KEY-PQ-1NONSENSE"} {
		_, err := writer.WrapKey(secret)
		require.ErrorContains(t, err, "malformed")
		require.NotContains(t, err.Error(), "NONSENSE")
	}
	_, secret := dataKey(t, newAge(t, []age.Recipient{classic.to}, []age.Identity{classic.from}))
	_, err := newAge(t, []age.Recipient{classic.to, pq.to}, nil).WrapKey(secret)
	require.ErrorContains(t, err, "can't mix")
}

func TestKeyOpeners(t *testing.T) {
	a, b, pq, other := x25519(t), x25519(t), hybrid(t), x25519(t)
	device := pair{&plugin{mask: 3}, &plugin{mask: 3}}
	_, wrapped, err := newAge(t, []age.Recipient{a.to, b.to, device.to}, nil).NewKey()
	require.NoError(t, err)
	openers := func(from ...age.Identity) []string {
		names, err := newAge(t, []age.Recipient{a.to}, from).KeyOpeners(wrapped)
		require.NoError(t, err)
		return names
	}
	require.Empty(t, openers())
	require.Empty(t, openers(other.from, pq.from))
	require.Equal(t, []string{fmt.Sprint(b.to), fmt.Sprint(a.to)}, openers(b.from, other.from, a.from))
	require.Equal(t, []string{"(identity #2, of type *crypto_test.plugin)"}, openers(other.from, device.from))

	_, forPQ, err := newAge(t, []age.Recipient{pq.to}, nil).NewKey()
	require.NoError(t, err)
	names, err := newAge(t, nil, []age.Identity{pq.from}).KeyOpeners(forPQ)
	require.NoError(t, err)
	require.Equal(t, []string{fmt.Sprint(pq.to)}, names)

	// A device that is not there is no identity that does not fit.
	_, err = newAge(t, nil, []age.Identity{a.from, &plugin{mask: 3, err: errUnplugged}}).KeyOpeners(wrapped)
	require.ErrorIs(t, err, errUnplugged)
	for _, b := range [][]byte{nil, []byte("age-encryption.org/v1\n"), wrapped[:len(wrapped)-1]} {
		_, err = newAge(t, nil, []age.Identity{a.from}).KeyOpeners(b)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	for _, b := range [][]byte{nil, []byte("nonsense"), []byte("age-encryption.org/v1\n")} {
		_, _, err = newAge(t, nil, []age.Identity{a.from}).KeyHeader(b)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}
