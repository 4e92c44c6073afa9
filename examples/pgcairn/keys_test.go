package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/stretchr/testify/require"
)

func TestKeyGenerate(t *testing.T) {
	h := newHost(t)
	requireKeys(t, h.json(t, "key", "generate"), "identity", "recipient")
	text := h.ok(t, "key", "generate")
	ids, err := age.ParseIdentities(strings.NewReader(text))
	require.NoError(t, err)
	require.Len(t, ids, 1)
	require.Contains(t, text, "# public key: "+ids[0].(*age.X25519Identity).Recipient().String())
	require.NotEqual(t, text, h.ok(t, "key", "generate"))
}

func TestCipher(t *testing.T) {
	_, one, err := crypto.Generate()
	require.NoError(t, err)
	identity, two, err := crypto.Generate()
	require.NoError(t, err)
	hybrid, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	device := plugin.EncodeRecipient("device", []byte("x"))
	file := filepath.Join(t.TempDir(), "identities")
	text := "# two\n\n" + identity + "\r\n" + plugin.EncodeIdentity("device", []byte("y")) + "\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

	for _, c := range []struct {
		name       string
		flags      common
		recipients []string
	}{
		{"repeated", common{Recipients: []string{one, two}}, []string{one, two}},
		{"spaces", common{Recipients: []string{one + " " + two}}, []string{one, two}},
		{"commas", common{Recipients: []string{one + "," + two + ", "}}, []string{one, two}},
		{"post-quantum", common{Recipients: []string{hybrid.Recipient().String()}}, []string{hybrid.Recipient().String()}},
		{"identities", common{Identities: []string{file}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.flags.cipher()
			require.NoError(t, err)
			require.Equal(t, c.recipients, got.(*crypto.Age).Recipients())
		})
	}

	t.Run("plugin", func(t *testing.T) {
		got, err := (&common{Recipients: []string{device}}).cipher()
		require.NoError(t, err)
		require.Len(t, got.(*crypto.Age).Recipients(), 1)
	})
	t.Run("none", func(t *testing.T) {
		got, err := (&common{}).cipher()
		require.NoError(t, err)
		require.Nil(t, got)
	})
	for name, text := range map[string]string{
		"empty": "", "recipient": one, "nonsense": "AGE-SECRET-KEY-1NONSENSE", "half": identity + "\nnonsense",
		"half a plugin": plugin.EncodeIdentity("device", nil) + "\nnonsense",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "identities")
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			_, err := (&common{Identities: []string{file}}).cipher()
			require.ErrorContains(t, err, file)
			require.NotContains(t, err.Error(), "SECRET")
		})
	}
}

// TestIdentityForARecipient: a secret that was given for what is public is not printed: the log of a server is no place
// for it.
func TestIdentityForARecipient(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	secret, _, err := crypto.Generate()
	require.NoError(t, err)
	for _, text := range []string{secret, strings.ToLower(secret), plugin.EncodeIdentity("device", []byte("y")), secret + "x"} {
		out := h.run(t, "list", "--recipient", text)
		out.requireFailure(t, 2, "it is an identity, which is secret", "")
		require.NotContains(t, strings.ToUpper(out.stderr), strings.ToUpper(text[20:]))
	}
}

// TestIdentityFiles: one variable names several, unless there is a file of that very name.
func TestIdentityFiles(t *testing.T) {
	t.Parallel()
	odd := filepath.Join(t.TempDir(), "a name, with spaces")
	require.NoError(t, os.WriteFile(odd, nil, 0o600))
	require.Equal(t, []string{"a", "b", "c", odd}, (&common{Identities: []string{"a b,c", odd}}).identityFiles())
}
