package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"filippo.io/age"
)

// maxSecret bounds the text of a data key's secret half; a post-quantum one has 77 bytes.
const maxSecret = 4 << 10

// IdentityError means that none of the identities at hand opens a wrapped data key. It names who can.
type IdentityError struct {
	Recipients []string // to whom the key is wrapped, as public keys; empty when the key does not tell
	Tried      int      // how many identities were tried
}

func (e *IdentityError) Error() string {
	var b strings.Builder
	switch e.Tried {
	case 0:
		b.WriteString("crypto: no identity given")
	case 1:
		b.WriteString("crypto: the identity given does not open this repository's data key")
	default:
		fmt.Fprintf(&b, "crypto: none of the %d identities given opens this repository's data key", e.Tried)
	}
	for i, name := range e.Recipients {
		switch i {
		case 0:
			b.WriteString("; needed is the identity of ")
		case maxNames:
			fmt.Fprintf(&b, " or of %d others", len(e.Recipients)-maxNames)
			return b.String()
		default:
			b.WriteString(" or ")
		}
		b.WriteString(brief(name))
	}
	return b.String()
}

// maxNames is how many recipients an error spells out.
const maxNames = 8

// brief shortens what no line can hold: a post-quantum recipient has 1,959 characters.
func brief(name string) string {
	if r := []rune(name); len(r) > 100 {
		return string(r[:40]) + "..." + string(r[len(r)-12:])
	}
	return name
}

// malformedError means that bytes are not a wrapped data key, or no longer.
type malformedError struct{ err error }

func (e *malformedError) Error() string {
	return "crypto: malformed wrapped data key: " + e.err.Error()
}
func (e *malformedError) Unwrap() error        { return e.err }
func (e *malformedError) Is(target error) bool { return target == fs.ErrInvalid }

// NewKey makes a data key: its public half, which encrypts, and its secret half, wrapped to the recipients as an age
// file. The key is post-quantum when the recipients are, X25519 otherwise.
func (a *Age) NewKey() (public string, wrapped []byte, err error) {
	// Whether they are, they tell when they wrap.
	wrapped, err = a.wrap(func(postQuantum bool) (secret string, err error) {
		public, secret, err = generate(postQuantum)
		return secret, err
	})
	if err != nil {
		return "", nil, err
	}
	return public, wrapped, nil
}

// wrap wraps the secret half of a data key to the recipients, which is asked for once it is known of what kind they are.
func (a *Age) wrap(secret func(postQuantum bool) (string, error)) ([]byte, error) {
	if len(a.recipients) == 0 {
		return nil, ErrNoRecipients
	}
	var buf bytes.Buffer
	// Their names stand beside age's own stanzas, which do not tell them.
	names := &age.Stanza{Type: recipientsStanza, Body: []byte(strings.Join(a.names, "\n"))}
	first := &withStanza{Recipient: a.recipients[0], stanza: names}
	to := slices.Clone(a.recipients)
	to[0] = first
	w, err := age.Encrypt(&buf, to...)
	if err != nil {
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	// All recipients have the labels of the first, or age would have refused them.
	text, err := secret(slices.Contains(first.labels, postQuantum))
	if err != nil {
		return nil, fmt.Errorf("crypto: make a data key: %w", err)
	}
	if _, err := io.WriteString(w, text+"\n"); err != nil {
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	return buf.Bytes(), nil
}

// generate makes both halves of a data key.
func generate(hybrid bool) (public, secret string, err error) {
	if hybrid {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", "", err
		}
		return id.Recipient().String(), id.String(), nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", err
	}
	return id.Recipient().String(), id.String(), nil
}

// OpenKey opens a wrapped data key with the identities at hand. When none fits the error is an *[IdentityError]; when
// the bytes are not a wrapped data key it matches fs.ErrInvalid; any other is that of an identity, such as a plugin
// that failed.
func (a *Age) OpenKey(wrapped []byte) (public, secret string, err error) {
	header, err := age.ExtractHeader(bytes.NewReader(wrapped))
	if err != nil {
		return "", "", &malformedError{err}
	}
	text, err := a.unwrap(wrapped)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return "", "", &IdentityError{Recipients: recipientsIn(header), Tried: len(a.identities)}
	}
	if err != nil {
		return "", "", err
	}
	secret = strings.TrimSpace(string(text))
	id, err := parseIdentity(secret)
	if err != nil {
		return "", "", &malformedError{err}
	}
	switch id := id.(type) {
	case *age.X25519Identity:
		public = id.Recipient().String()
	case *age.HybridIdentity:
		public = id.Recipient().String()
	}
	return public, secret, nil
}

// unwrap decrypts a wrapped key. age.ErrIncorrectIdentity means that no identity fits.
func (a *Age) unwrap(wrapped []byte) ([]byte, error) {
	if len(a.identities) == 0 {
		return nil, age.ErrIncorrectIdentity
	}
	// What age's own identities fail with is due to the bytes; others may have other reasons.
	var reason error
	ids := slices.Clone(a.identities)
	for i, id := range ids {
		switch id.(type) {
		case *age.X25519Identity, *age.HybridIdentity, *age.ScryptIdentity:
		default:
			ids[i] = foreign{id, &reason}
		}
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), ids...)
	switch none := (*age.NoIdentityMatchError)(nil); {
	case errors.As(err, &none):
		return nil, age.ErrIncorrectIdentity
	case reason != nil:
		return nil, fmt.Errorf("crypto: open a wrapped data key: %w", reason)
	case err != nil:
		return nil, &malformedError{err}
	}
	text, err := io.ReadAll(io.LimitReader(r, maxSecret))
	if err != nil {
		return nil, &malformedError{err}
	}
	// The rest must be right as well.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, &malformedError{err}
	}
	return text, nil
}

// foreign notes why an identity that is none of age's own has failed.
type foreign struct {
	age.Identity

	reason *error
}

func (f foreign) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := f.Identity.Unwrap(stanzas)
	if err != nil && !errors.Is(err, age.ErrIncorrectIdentity) {
		*f.reason = err
	}
	return key, err
}

// recipientsIn names the recipients in the header of a wrapped key. The names are not authentic: without the identity
// nothing can tell. Keys that another program has wrapped have none.
func recipientsIn(header []byte) []string {
	body, err := stanzaBody(header, recipientsStanza)
	if err != nil || len(body) == 0 {
		return nil
	}
	names := strings.Split(string(body), "\n")
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || !printable(name) })
}
