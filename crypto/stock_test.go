package crypto_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
)

// The stock age program, which `make tools` installs, reads everything: the data key with the identity, and the content
// with the data key.
func TestStockAge(t *testing.T) {
	who, other := x25519(t), x25519(t)
	a := newAge(t, []age.Recipient{other.to, who.to}, nil)
	public, wrapped, err := a.NewKey()
	require.NoError(t, err)
	content := bytes.Repeat([]byte("a cairn marks the way back\n"), 10_000)

	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) { require.NoError(t, os.WriteFile(file(name), b, 0o600)) }
	write("identity.txt", []byte(fmt.Sprintln(who.from)))
	write("key.age", wrapped)
	write("object", encrypt(t, a, public, []byte("the head"), content))
	run := func(args ...string) {
		out, err := exec.Command("age", args...).CombinedOutput()
		require.NoError(t, err, "age %q: %s", args, out)
	}
	run("-d", "-i", file("identity.txt"), "-o", file("key.txt"), file("key.age"))
	run("-d", "-i", file("key.txt"), "-o", file("content"), file("object"))
	got, err := os.ReadFile(file("content"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))

	// And the other way round: a key that a person has wrapped anew, for one more reader.
	third := x25519(t)
	run("-r", fmt.Sprint(who.to), "-r", fmt.Sprint(third.to), "-o", file("rewrapped.age"), file("key.txt"))
	rewrapped, err := os.ReadFile(file("rewrapped.age"))
	require.NoError(t, err)
	again, _, err := newAge(t, nil, []age.Identity{third.from}).OpenKey(rewrapped)
	require.NoError(t, err)
	require.Equal(t, public, again)
}
