package crypto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
)

// ErrNoRecipients is returned by [Age.NewKey] of an Age that was made without recipients: it can read, not write.
var ErrNoRecipients = errors.New("crypto: no recipients given: nothing can be encrypted")

// Age encrypts to data keys wrapped to age recipients, and decrypts with age identities. It satisfies repo.Cipher.
// It is safe for concurrent use as long as the recipients and identities given are; those of filippo.io/age are.
type Age struct {
	recipients []age.Recipient
	identities []age.Identity
	names      []string // of the recipients
	unnamed    bool     // a recipient has no public key as text
}

// New returns an Age that writes for the recipients and reads with the identities. Either may be empty, not both.
//
// Any implementation of the age interfaces will do: X25519, post-quantum hybrid, SSH keys and plugins. Passphrases are
// refused as recipients: every host that writes would hold what reads. As with age itself, post-quantum recipients
// cannot be mixed with others; the error comes from the first [Age.NewKey].
func New(to []age.Recipient, from []age.Identity) (*Age, error) {
	if len(to) == 0 && len(from) == 0 {
		return nil, errors.New("crypto: neither recipients nor identities given")
	}
	a := &Age{recipients: slices.Clone(to), identities: slices.Clone(from)}
	for i, r := range a.recipients {
		if r == nil {
			return nil, fmt.Errorf("crypto: recipient #%d is nil", i)
		}
		// age opens what is wrapped to a passphrase only when nothing else stands in the header.
		if _, ok := r.(*age.ScryptRecipient); ok {
			return nil, fmt.Errorf("crypto: recipient #%d is a passphrase; give a public key", i)
		}
		name, ok := nameOf(r)
		a.names = append(a.names, name)
		a.unnamed = a.unnamed || !ok
	}
	if slices.Contains(a.identities, nil) {
		return nil, errors.New("crypto: an identity is nil")
	}
	return a, nil
}

// Generate makes a new X25519 identity, to be kept where restores happen and nowhere else, and its recipient, which
// may be given to every host that backs up.
func Generate() (identity, recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("crypto: %w", err)
	}
	return id.String(), id.Recipient().String(), nil
}

// Recipients names the recipients given to [New], each as its public key where it has one as text.
func (a *Age) Recipients() []string { return slices.Clone(a.names) }

// Fingerprint identifies the set of recipients: equal sets have equal fingerprints, whatever their order. It is empty
// when there are no recipients, or one that has no public key as text, age1... or ssh-..., and so cannot be told from
// another: a plugin's that was made of an identity, for one.
func (a *Age) Fingerprint() string {
	if len(a.names) == 0 || a.unnamed {
		return ""
	}
	names := slices.Clone(a.names)
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(names), "\n")))
	return hex.EncodeToString(sum[:16])
}

// Encrypt returns a writer that encrypts to the public half of a data key and writes to w. Its Close finishes the
// ciphertext; it does not close w. head, at most a few KiB, stands unencrypted but authenticated in front, where
// [Age.Head] reads it without any key.
func (a *Age) Encrypt(w io.Writer, public string, head []byte) (io.WriteCloser, error) {
	r, err := parseRecipient(public)
	if err != nil {
		return nil, fmt.Errorf("crypto: public half of a data key: %w", err)
	}
	ew, err := age.Encrypt(w, &withStanza{Recipient: r, stanza: &age.Stanza{Type: headStanza, Body: head}})
	if err != nil {
		return nil, fmt.Errorf("crypto: %w", err)
	}
	return ew, nil
}

// Decrypt returns a reader of the plaintext of r, decrypted with the secret half of a data key. Every 64 KiB are
// authenticated before they are returned, and a truncated ciphertext ends in an error.
func (a *Age) Decrypt(r io.Reader, secret string) (io.Reader, error) {
	id, err := parseIdentity(secret)
	if err != nil {
		return nil, err
	}
	pr, err := age.Decrypt(r, id)
	if err != nil {
		return nil, fmt.Errorf("crypto: %w", err)
	}
	return pr, nil
}

// DecryptAt returns random access to the plaintext of a ciphertext of size bytes, and the plaintext's size in bytes.
func (a *Age) DecryptAt(r io.ReaderAt, size int64, secret string) (io.ReaderAt, int64, error) {
	id, err := parseIdentity(secret)
	if err != nil {
		return nil, 0, err
	}
	pr, n, err := age.DecryptReaderAt(r, size, id)
	if err != nil {
		return nil, 0, fmt.Errorf("crypto: %w", err)
	}
	return pr, n, nil
}

// nameOf returns the public key of a recipient as text, or a stand-in for one that has none. Other texts may be those of
// several: all that plugins have made of identities say the same.
func nameOf(r age.Recipient) (name string, ok bool) {
	if s, ok := r.(fmt.Stringer); ok {
		name := s.String()
		if (strings.HasPrefix(name, "age1") || strings.HasPrefix(name, "ssh-")) && printable(name) {
			return name, true
		}
	}
	return fmt.Sprintf("(a recipient of type %T)", r), false
}

// printable tells whether a name fits on a line, and does to a terminal what it should.
func printable(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) })
}

func parseRecipient(s string) (age.Recipient, error) {
	if strings.HasPrefix(s, "age1pq1") {
		return age.ParseHybridRecipient(s)
	}
	return age.ParseX25519Recipient(s)
}

// parseIdentity never lets the secret into an error.
func parseIdentity(s string) (age.Identity, error) {
	if strings.HasPrefix(s, "AGE-SECRET-KEY-PQ-1") {
		if id, err := age.ParseHybridIdentity(s); err == nil {
			return id, nil
		}
	} else if id, err := age.ParseX25519Identity(s); err == nil {
		return id, nil
	}
	return nil, errors.New("crypto: the secret half of a data key is malformed")
}
