package crypto_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
)

func TestIdentityError(t *testing.T) {
	a, b, c, pq := x25519(t), x25519(t), x25519(t), hybrid(t)
	other := &plugin{mask: 9}
	tests := []struct {
		name string
		to   []age.Recipient
		from []age.Identity
		want []string // recipients named
		text string   // of the error, to its first recipient
	}{
		{"none given", []age.Recipient{a.to}, nil, []string{fmt.Sprint(a.to)}, "crypto: no identity given; needed is the identity of age1"},
		{"the wrong one", []age.Recipient{a.to}, []age.Identity{b.from}, []string{fmt.Sprint(a.to)}, "crypto: the identity given does not open this repository's data key; needed is the identity of age1"},
		{"wrong ones", []age.Recipient{a.to, b.to}, []age.Identity{c.from, pq.from, other}, []string{fmt.Sprint(a.to), fmt.Sprint(b.to)}, "crypto: none of the 3 identities given opens this repository's data key; needed is the identity of age1"},
		{"post-quantum", []age.Recipient{pq.to}, []age.Identity{a.from}, []string{fmt.Sprint(pq.to)}, "crypto: the identity given does not open this repository's data key; needed is the identity of age1pq1"},
		{"without text", []age.Recipient{mute{a.to}}, []age.Identity{b.from}, []string{"(a recipient of type crypto_test.mute)"}, "crypto: the identity given does not open this repository's data key; needed is the identity of (a recip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, wrapped, err := newAge(t, tt.to, nil).NewKey()
			require.NoError(t, err)
			from := tt.from
			reader := newAge(t, tt.to, from)
			public, secret, err := reader.OpenKey(wrapped)
			assert.Empty(t, public+secret)
			var wrong *crypto.IdentityError
			require.ErrorAs(t, fmt.Errorf("wrapped: %w", err), &wrong)
			assert.Equal(t, tt.want, wrong.Recipients)
			assert.Equal(t, len(tt.from), wrong.Tried)
			assert.True(t, strings.HasPrefix(err.Error(), tt.text), err.Error())
			require.NotErrorIs(t, err, fs.ErrInvalid, "nothing is wrong with the key")
		})
	}
}

func TestIdentityErrorIsReadable(t *testing.T) {
	long := "age1pq1" + strings.Repeat("x", 1952)
	e := &crypto.IdentityError{Recipients: []string{long, "age1second"}, Tried: 1}
	assert.Equal(t, "crypto: the identity given does not open this repository's data key; needed is the identity of age1pq1"+
		strings.Repeat("x", 33)+"..."+strings.Repeat("x", 12)+" or age1second", e.Error())

	e = &crypto.IdentityError{Recipients: strings.Fields("a b c d e f g h i j k")}
	assert.Equal(t, "crypto: no identity given; needed is the identity of a or b or c or d or e or f or g or h or of 3 others", e.Error())
	assert.Equal(t, "crypto: no identity given", (&crypto.IdentityError{}).Error())
}

// ageEncrypt is what a program does that knows nothing of ours.
func ageEncrypt(t testing.TB, plain string, to ...age.Recipient) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, to...)
	require.NoError(t, err)
	_, err = io.WriteString(w, plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// stanzas is a recipient that writes the stanzas it is told to.
type stanzas []*age.Stanza

func (s stanzas) Wrap([]byte) ([]*age.Stanza, error) { return s, nil }

func TestOpenKeyWrappedByOthers(t *testing.T) {
	who, key := x25519(t), x25519(t)
	passphrase, err := age.NewScryptRecipient("correct horse")
	require.NoError(t, err)
	passphrase.SetWorkFactor(4)
	scrypt, err := age.NewScryptIdentity("correct horse")
	require.NoError(t, err)
	secret := fmt.Sprint(key.from)

	for name, wrapped := range map[string][]byte{
		"to a person":          ageEncrypt(t, secret, who.to),
		"with a newline":       ageEncrypt(t, secret+"\n", who.to),
		"to a passphrase":      ageEncrypt(t, secret, passphrase),
		"with unknown stanzas": ageEncrypt(t, secret, stanzas{{Type: "example.com/x"}}, who.to),
	} {
		public, got, err := newAge(t, nil, []age.Identity{who.from, scrypt}).OpenKey(wrapped)
		require.NoError(t, err, name)
		assert.Equal(t, secret, got)
		assert.Equal(t, fmt.Sprint(key.to), public)

		_, _, err = newAge(t, nil, []age.Identity{key.from}).OpenKey(wrapped)
		var wrong *crypto.IdentityError
		require.ErrorAs(t, err, &wrong, name)
		assert.Empty(t, wrong.Recipients)
		assert.NotContains(t, err.Error(), "needed")
	}

	// Whoever can write to the store could name anybody; but not write to the terminal of who reads the error.
	planted := stanzas{{Type: "pgcairn-recipients", Body: []byte("age1good\n\x1b[31mred\n\nage1\xff\nage1fine")}}
	_, _, err = newAge(t, nil, []age.Identity{key.from}).OpenKey(ageEncrypt(t, secret, who.to, planted))
	var wrong *crypto.IdentityError
	require.ErrorAs(t, err, &wrong)
	assert.Equal(t, []string{"age1good", "age1fine"}, wrong.Recipients)
}

func TestOpenKeyMalformed(t *testing.T) {
	who := x25519(t)
	a := newAge(t, []age.Recipient{who.to}, []age.Identity{who.from})
	tests := map[string][]byte{
		"empty":              {},
		"not age":            []byte("-----BEGIN AGE ENCRYPTED FILE-----\n"),
		"a bare secret":      []byte(fmt.Sprint(x25519(t).from) + "\n"),
		"not a key inside":   ageEncrypt(t, "AGE-SECRET-KEY-1QQQ", who.to),
		"nothing inside":     ageEncrypt(t, "", who.to),
		"two keys inside":    ageEncrypt(t, fmt.Sprintf("%s\n%s\n", x25519(t).from, x25519(t).from), who.to),
		"too much inside":    ageEncrypt(t, strings.Repeat("A", 1<<20), who.to),
		"a malformed stanza": ageEncrypt(t, fmt.Sprint(who.from), stanzas{{Type: "X25519", Args: []string{"!"}}}, who.to),
	}
	for name, wrapped := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := a.OpenKey(wrapped)
			require.ErrorIs(t, err, fs.ErrInvalid)
			assert.NotContains(t, err.Error(), "AGE-SECRET-KEY")
			assert.Less(t, len(err.Error()), 300)
		})
	}
}

func TestOpenKeyDetectsEveryChange(t *testing.T) {
	for name, who := range map[string]pair{"X25519": x25519(t), "post-quantum": hybrid(t)} {
		t.Run(name, func(t *testing.T) {
			a := newAge(t, []age.Recipient{who.to}, []age.Identity{who.from})
			_, wrapped, err := a.NewKey()
			require.NoError(t, err)
			_, secret, err := a.OpenKey(wrapped)
			require.NoError(t, err)
			check := func(what string, b []byte) {
				public, got, err := a.OpenKey(b)
				var wrong *crypto.IdentityError
				require.True(t, errors.Is(err, fs.ErrInvalid) || errors.As(err, &wrong), "%s: %v", what, err)
				require.Empty(t, public+got)
				require.NotContains(t, err.Error(), secret)
			}
			step := 1 + len(wrapped)/1000
			for i := 0; i < len(wrapped); i += step {
				for bit := range 8 {
					if step > 1 && bit != i%8 {
						continue
					}
					b := bytes.Clone(wrapped)
					b[i] ^= 1 << bit
					check(fmt.Sprintf("bit %d of byte %d flipped", bit, i), b)
				}
				check(fmt.Sprint("truncated to ", i), wrapped[:i])
			}
			check("a byte too many", append(bytes.Clone(wrapped), '\n'))
		})
	}
}

var errUnplugged = errors.New("plug the token in")

// An identity that could not try is no wrong identity, and says nothing about the key.
func TestOpenKeyIdentityFails(t *testing.T) {
	who, broken := x25519(t), &plugin{mask: 1, err: errUnplugged}
	_, wrapped, err := newAge(t, []age.Recipient{broken}, nil).NewKey()
	require.NoError(t, err)
	_, _, err = newAge(t, nil, []age.Identity{broken, who.from}).OpenKey(wrapped)
	require.ErrorIs(t, err, errUnplugged)
	require.NotErrorIs(t, err, fs.ErrInvalid)
	var wrong *crypto.IdentityError
	assert.NotErrorAs(t, err, &wrong)

	// Those that need nobody's help are tried first.
	_, wrapped, err = newAge(t, []age.Recipient{broken, who.to}, nil).NewKey()
	require.NoError(t, err)
	_, _, err = newAge(t, nil, []age.Identity{broken, who.from}).OpenKey(wrapped)
	require.NoError(t, err)
}

func TestNewKeyRefusals(t *testing.T) {
	classic, pq := x25519(t), hybrid(t)
	_, _, err := newAge(t, nil, []age.Identity{classic.from}).NewKey()
	require.ErrorIs(t, err, crypto.ErrNoRecipients)
	for _, to := range [][]age.Recipient{{classic.to, pq.to}, {pq.to, classic.to}, {pq.to, &plugin{mask: 1}}} {
		_, _, err = newAge(t, to, nil).NewKey()
		require.ErrorContains(t, err, "can't mix post-quantum and classic")
	}
	_, _, err = newAge(t, []age.Recipient{refusing{}}, nil).NewKey()
	require.ErrorIs(t, err, errUnplugged)
}

type refusing struct{}

func (refusing) Wrap([]byte) ([]*age.Stanza, error) { return nil, errUnplugged }

func TestNewKeyIsNew(t *testing.T) {
	a := newAge(t, []age.Recipient{x25519(t).to}, nil)
	public, wrapped, err := a.NewKey()
	require.NoError(t, err)
	again, wrappedAgain, err := a.NewKey()
	require.NoError(t, err)
	assert.NotEqual(t, public, again)
	assert.NotEqual(t, wrapped, wrappedAgain)
}

func FuzzOpenKey(f *testing.F) {
	who := x25519(f)
	a := newAge(f, []age.Recipient{who.to}, []age.Identity{who.from})
	public, wrapped, err := a.NewKey()
	require.NoError(f, err)
	_, secret, err := a.OpenKey(wrapped)
	require.NoError(f, err)
	f.Add(wrapped)
	f.Add(wrapped[:len(wrapped)/2])
	f.Add([]byte(strings.Replace(string(wrapped), "pgcairn-recipients", "pgcairn", 1)))
	f.Add([]byte("age-encryption.org/v1\n-> X25519 AAAA\n\n--- AAAA\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		gotPublic, gotSecret, err := a.OpenKey(b)
		if err != nil {
			require.Empty(t, gotPublic+gotSecret)
			require.NotContains(t, err.Error(), secret)
			return
		}
		require.Equal(t, wrapped, b, "somebody has forged a key")
		require.Equal(t, public, gotPublic)
	})
}
