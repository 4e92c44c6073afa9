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
)

func TestHead(t *testing.T) {
	reader := newAge(t, nil, []age.Identity{x25519(t).from}) // none of the recipients
	for name, who := range map[string]pair{"X25519": x25519(t), "post-quantum": hybrid(t)} {
		a := newAge(t, []age.Recipient{who.to}, nil)
		public, _, err := a.NewKey()
		require.NoError(t, err)
		for _, size := range []int{0, 1, 47, 48, 49, 288, 4000} { // 48 bytes fill a line
			head := bytes.Repeat([]byte{0xa5}, size)
			sealed := encrypt(t, a, public, head, []byte("content"))
			got, err := reader.Head(bytes.NewReader(sealed))
			require.NoError(t, err, name)
			require.True(t, bytes.Equal(head, got), "%s, %d bytes", name, size)
			if size <= 288 {
				assert.Less(t, bytes.Index(sealed, []byte("\n---")), 4<<10, "the header is short")
			}
		}
	}
}

func TestHeadFails(t *testing.T) {
	who := x25519(t)
	a := newAge(t, []age.Recipient{who.to}, nil)
	tests := map[string]struct {
		object io.Reader
		want   string
	}{
		"empty":           {strings.NewReader(""), "empty"},
		"not age":         {strings.NewReader("something else\n"), "intro"},
		"not ours":        {bytes.NewReader(ageEncrypt(t, "content", who.to)), "no such stanza"},
		"no stanza":       {strings.NewReader("age-encryption.org/v1\n--- " + strings.Repeat("A", 43) + "\n"), ""},
		"endless stanzas": {io.MultiReader(strings.NewReader("age-encryption.org/v1\n"), &endless{line: "-> X25519\n\n"}), ""},
		"endless line":    {io.MultiReader(strings.NewReader("age-encryption.org/v1\n-> "), &endless{line: "x"}), ""},
		"broken off":      {io.MultiReader(strings.NewReader("age-encryption.org/v1\n"), broken{}), errUnplugged.Error()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := a.Head(tt.object)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// endless is the same line over and over.
type endless struct {
	line string
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.read > 8<<20 {
		panic(fmt.Sprintf("%d bytes were read of what may be a header", e.read))
	}
	for i := range p {
		p[i] = e.line[e.read%len(e.line)]
		e.read++
	}
	return len(p), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errUnplugged }

func FuzzHead(f *testing.F) {
	a := newAge(f, []age.Recipient{x25519(f).to}, nil)
	public, _, err := a.NewKey()
	require.NoError(f, err)
	sealed := encrypt(f, a, public, []byte("the head"), []byte("content"))
	f.Add(sealed)
	f.Add(sealed[:len(sealed)/2])
	f.Add([]byte("age-encryption.org/v1\n-> pgcairn\nAAAA\n--- " + strings.Repeat("A", 43) + "\n"))
	f.Add([]byte("age-encryption.org/v1\n-> pgcairn x y\n\n-> pgcairn\nAAAA\n--- " + strings.Repeat("A", 43) + "\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, err := a.Head(bytes.NewReader(b))
		if err == nil && len(head) > len(b) {
			t.Error("more head than there are bytes")
		}
	})
}
