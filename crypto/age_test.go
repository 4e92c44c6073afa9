package crypto_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
)

var _ repo.Cipher = (*crypto.Age)(nil)

// pair is somebody who may read.
type pair struct {
	to   age.Recipient
	from age.Identity
}

func x25519(t testing.TB) pair {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return pair{id.Recipient(), id}
}

func hybrid(t testing.TB) pair {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	return pair{id.Recipient(), id}
}

// plugin is a recipient and an identity of somebody's own, as those of an age plugin are.
type plugin struct {
	mask   byte
	labels []string
	err    error // of Unwrap
}

func (p *plugin) Wrap(key []byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: "example.com/xor", Args: []string{fmt.Sprint(p.mask)}, Body: p.xor(key)}}, nil
}

func (p *plugin) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	s, err := p.Wrap(key)
	return s, p.labels, err
}

func (p *plugin) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if p.err != nil {
		return nil, p.err
	}
	for _, s := range stanzas {
		if s.Type == "example.com/xor" && s.Args[0] == fmt.Sprint(p.mask) {
			return p.xor(s.Body), nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

func (p *plugin) String() string { return fmt.Sprintf("age1xor%d", p.mask) }

func (p *plugin) xor(b []byte) []byte {
	b = bytes.Clone(b)
	for i := range b {
		b[i] ^= p.mask
	}
	return b
}

// mute hides the text form of a recipient, as SSH keys have none.
type mute struct{ age.Recipient }

// named gives a recipient another text form.
type named struct {
	age.Recipient
	text string
}

func (n named) String() string { return n.text }

func newAge(t testing.TB, to []age.Recipient, from []age.Identity) *crypto.Age {
	t.Helper()
	a, err := crypto.New(to, from)
	require.NoError(t, err)
	return a
}

// dataKey is a data key that has made the way to the repository and back.
func dataKey(t testing.TB, a *crypto.Age) (public, secret string) {
	t.Helper()
	public, wrapped, err := a.NewKey()
	require.NoError(t, err)
	again, secret, err := a.OpenKey(wrapped)
	require.NoError(t, err)
	require.Equal(t, public, again)
	return public, secret
}

func encrypt(t testing.TB, a *crypto.Age, public string, head, plain []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := a.Encrypt(&buf, public, head)
	require.NoError(t, err)
	_, err = w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func decrypt(a *crypto.Age, b []byte, secret string) ([]byte, error) {
	r, err := a.Decrypt(bytes.NewReader(b), secret)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestRoundTrip(t *testing.T) {
	tests := []struct {
		name   string
		who    []pair
		secret string // prefix
	}{
		{"X25519", []pair{x25519(t)}, "AGE-SECRET-KEY-1"},
		{"post-quantum", []pair{hybrid(t)}, "AGE-SECRET-KEY-PQ-1"},
		{"plugin", []pair{{&plugin{mask: 3}, &plugin{mask: 3}}}, "AGE-SECRET-KEY-1"},
		{"post-quantum plugin", []pair{{&plugin{mask: 4, labels: []string{"postquantum"}}, &plugin{mask: 4}}}, "AGE-SECRET-KEY-PQ-1"},
		{"several", []pair{x25519(t), {&plugin{mask: 5}, &plugin{mask: 5}}, x25519(t)}, "AGE-SECRET-KEY-1"},
		{"several post-quantum", []pair{{&plugin{mask: 6, labels: []string{"postquantum"}}, &plugin{mask: 6}}, hybrid(t)}, "AGE-SECRET-KEY-PQ-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var to []age.Recipient
			for _, p := range tt.who {
				to = append(to, p.to)
			}
			writer := newAge(t, to, nil)
			public, wrapped, err := writer.NewKey()
			require.NoError(t, err)
			for i, p := range tt.who {
				reader := newAge(t, nil, []age.Identity{p.from})
				again, secret, err := reader.OpenKey(wrapped)
				require.NoError(t, err, i)
				assert.Equal(t, public, again)
				assert.True(t, strings.HasPrefix(secret, tt.secret), "another kind of data key")
				for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20} {
					plain, head := bytes.Repeat([]byte{7}, size), []byte("the head")
					sealed := encrypt(t, writer, public, head, plain)
					got, err := decrypt(reader, sealed, secret)
					require.NoError(t, err)
					require.True(t, bytes.Equal(plain, got))

					at, n, err := reader.DecryptAt(bytes.NewReader(sealed), int64(len(sealed)), secret)
					require.NoError(t, err)
					require.EqualValues(t, size, n)
					got, err = io.ReadAll(io.NewSectionReader(at, n/3, n))
					require.NoError(t, err)
					require.True(t, bytes.Equal(plain[size/3:], got))
				}
			}
		})
	}
}

func TestNew(t *testing.T) {
	who := x25519(t)
	passphrase, err := age.NewScryptRecipient("correct horse")
	require.NoError(t, err)
	tests := []struct {
		name string
		to   []age.Recipient
		from []age.Identity
		want string // in the error
	}{
		{"nothing", nil, nil, "neither"},
		{"a nil recipient", []age.Recipient{who.to, nil}, nil, "recipient #1 is nil"},
		{"a nil identity", nil, []age.Identity{nil}, "identity is nil"},
		{"a passphrase", []age.Recipient{passphrase}, nil, "recipient #0 is a passphrase"},
		{"a writer", []age.Recipient{who.to}, nil, ""},
		{"a reader", nil, []age.Identity{who.from}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := crypto.New(tt.to, tt.from)
			if tt.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.want)
			}
		})
	}
}

// What New is given is the caller's to change afterwards.
func TestNewCopies(t *testing.T) {
	who, other := x25519(t), x25519(t)
	to, from := []age.Recipient{who.to}, []age.Identity{who.from}
	a := newAge(t, to, from)
	to[0], from[0] = other.to, nil
	dataKey(t, a)
	names := a.Recipients()
	names[0] = "changed"
	assert.Equal(t, []string{fmt.Sprint(who.to)}, a.Recipients())
}

func TestGenerate(t *testing.T) {
	identity, recipient, err := crypto.Generate()
	require.NoError(t, err)
	from, err := age.ParseX25519Identity(identity)
	require.NoError(t, err)
	to, err := age.ParseX25519Recipient(recipient)
	require.NoError(t, err)
	dataKey(t, newAge(t, []age.Recipient{to}, []age.Identity{from}))
	again, _, err := crypto.Generate()
	require.NoError(t, err)
	assert.NotEqual(t, identity, again)
}

func TestRecipientsAndFingerprint(t *testing.T) {
	a, b, pq := x25519(t).to, x25519(t).to, hybrid(t).to
	fingerprint := func(to ...age.Recipient) string { return newAge(t, to, nil).Fingerprint() }

	assert.Len(t, fingerprint(a), 32)
	assert.Equal(t, fingerprint(a, b), fingerprint(b, a), "the order does not matter")
	assert.Equal(t, fingerprint(a), fingerprint(a, a), "it is a set")
	different := map[string]string{
		fingerprint(a):                      "a",
		fingerprint(b):                      "b",
		fingerprint(pq):                     "pq",
		fingerprint(a, b):                   "a and b",
		fingerprint(a, b, &plugin{mask: 1}): "and a plugin",
	}
	assert.Len(t, different, 5)
	parsed, err := age.ParseX25519Recipient(fmt.Sprint(a))
	require.NoError(t, err)
	assert.Equal(t, fingerprint(a), fingerprint(parsed), "in every process")

	assert.Empty(t, newAge(t, nil, []age.Identity{x25519(t).from}).Fingerprint(), "no recipients")
	assert.Len(t, fingerprint(named{a, "ssh-ed25519 AAAA me@here"}), 32)
	unnamed := []age.Recipient{mute{a}}
	for _, text := range []string{"", "age1\nlines", "age1\x1b[31m", "age1\xff", "<identity-based recipient>", "AGE-PLUGIN-NAME-1SECRET"} {
		unnamed = append(unnamed, named{a, text})
	}
	for _, r := range unnamed {
		assert.Empty(t, fingerprint(a, r), "%T cannot be told from another", r)
		assert.Equal(t, []string{fmt.Sprint(b), fmt.Sprintf("(a recipient of type %T)", r)}, newAge(t, []age.Recipient{b, r}, nil).Recipients())
	}
}

func TestEncryptToBadKey(t *testing.T) {
	a := newAge(t, []age.Recipient{x25519(t).to}, nil)
	for _, public := range []string{"", "age1", "age1pq1", "ssh-ed25519 AAAA", fmt.Sprint(x25519(t).to) + "q"} {
		_, err := a.Encrypt(io.Discard, public, nil)
		require.ErrorContains(t, err, "public half", public)
	}
}

// A failing writer fails Encrypt or what comes after, and never gets by.
func TestEncryptWriteFails(t *testing.T) {
	a := newAge(t, []age.Recipient{x25519(t).to}, []age.Identity{x25519(t).from})
	public, _, err := a.NewKey()
	require.NoError(t, err)
	size := len(encrypt(t, a, public, []byte("head"), make([]byte, 200<<10)))
	for left := 0; left < size; left += 1 + left {
		w, err := a.Encrypt(&full{left}, public, []byte("head"))
		if err == nil {
			_, werr := w.Write(make([]byte, 200<<10))
			if err = w.Close(); werr != nil {
				err = werr
			}
		}
		require.ErrorIs(t, err, io.ErrShortWrite, left)
	}
}

// full takes so many bytes and no more.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func TestDecryptDetectsEveryChange(t *testing.T) {
	for name, who := range map[string]pair{"X25519": x25519(t), "post-quantum": hybrid(t)} {
		t.Run(name, func(t *testing.T) {
			a := newAge(t, []age.Recipient{who.to}, []age.Identity{who.from})
			public, secret := dataKey(t, a)
			sealed := encrypt(t, a, public, []byte("head"), []byte("content"))
			check := func(what string, b []byte) {
				_, err := decrypt(a, b, secret)
				require.Error(t, err, what)
				if at, n, err := a.DecryptAt(bytes.NewReader(b), int64(len(b)), secret); err == nil {
					_, err = io.ReadAll(io.NewSectionReader(at, 0, n))
					require.Error(t, err, what)
				}
			}
			for i := 0; i < len(sealed); i += 1 + len(sealed)/1000 {
				b := bytes.Clone(sealed)
				b[i] ^= 1 << (i % 8)
				check(fmt.Sprint("bit flipped at ", i), b)
				check(fmt.Sprint("truncated to ", i), sealed[:i])
			}
			check("a byte too many", append(bytes.Clone(sealed), 0))
		})
	}
}

func TestDecryptWithWrongKey(t *testing.T) {
	a := newAge(t, []age.Recipient{x25519(t).to}, []age.Identity{x25519(t).from})
	public, _, err := a.NewKey()
	require.NoError(t, err)
	sealed := encrypt(t, a, public, nil, []byte("content"))
	tests := []struct{ name, secret, want string }{
		{"another", fmt.Sprint(x25519(t).from), "did not match"},
		{"another kind", fmt.Sprint(hybrid(t).from), "did not match"},
		{"malformed", "AGE-SECRET-KEY-1QQQ", "malformed"},
		{"malformed post-quantum", "AGE-SECRET-KEY-PQ-1QQQ", "malformed"},
		{"none", "", "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decrypt(a, sealed, tt.secret)
			require.ErrorContains(t, err, tt.want)
			_, _, errAt := a.DecryptAt(bytes.NewReader(sealed), int64(len(sealed)), tt.secret)
			require.ErrorContains(t, errAt, tt.want)
			if tt.secret != "" {
				assert.NotContains(t, err.Error()+errAt.Error(), tt.secret)
			}
		})
	}
}
