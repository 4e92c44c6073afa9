package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// maxWrapped bounds a wrapped data key.
const maxWrapped = 4 << 20

// IdentityError means that none of the identities at hand opens a wrapped data key. It names who can.
type IdentityError struct {
	Recipients []string // to whom the key is wrapped, as public keys
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
	if len(e.Recipients) > 0 {
		fmt.Fprintf(&b, "; needed is the identity of %s", strings.Join(e.Recipients, " or "))
	}
	return b.String()
}

// NewKey makes a data key: its public half, which encrypts, and its secret half, wrapped to the recipients as an age
// file. The key is post-quantum when the recipients are, X25519 otherwise.
func (a *Age) NewKey() (public string, wrapped []byte, err error) {
	if len(a.recipients) == 0 {
		return "", nil, ErrNoRecipients
	}
	hybrid := true
	for _, r := range a.recipients {
		if _, ok := r.(*age.HybridRecipient); !ok {
			hybrid = false
		}
	}
	var secret string
	if hybrid {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", nil, fmt.Errorf("crypto: %w", err)
		}
		public, secret = id.Recipient().String(), id.String()
	} else {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return "", nil, fmt.Errorf("crypto: %w", err)
		}
		public, secret = id.Recipient().String(), id.String()
	}
	wrapped, err = a.wrap(secret)
	if err != nil {
		return "", nil, err
	}
	return public, wrapped, nil
}

// OpenKey opens a wrapped data key with the identities at hand. When none fits the error is an *[IdentityError].
func (a *Age) OpenKey(wrapped []byte) (public, secret string, err error) {
	header, err := age.ExtractHeader(bytes.NewReader(wrapped))
	if err != nil {
		return "", "", fmt.Errorf("crypto: wrapped data key: %w", err)
	}
	r, err := a.tryIdentities(wrapped)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		e := &IdentityError{Tried: len(a.identities)}
		// Keys that another program has wrapped have no such stanza; then the error names nobody.
		if names, err := stanzaBody(header, recipientsStanza); err == nil && len(names) > 0 {
			e.Recipients = strings.Split(string(names), "\n")
		}
		return "", "", e
	}
	if err != nil {
		return "", "", fmt.Errorf("crypto: wrapped data key: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxWrapped))
	if err != nil {
		return "", "", fmt.Errorf("crypto: wrapped data key: %w", err)
	}
	secret = strings.TrimSpace(string(text))
	id, err := parseIdentity(secret)
	if err != nil {
		return "", "", err
	}
	switch id := id.(type) {
	case *age.X25519Identity:
		public = id.Recipient().String()
	case *age.HybridIdentity:
		public = id.Recipient().String()
	}
	return public, secret, nil
}

func (a *Age) tryIdentities(wrapped []byte) (io.Reader, error) {
	if len(a.identities) == 0 {
		return nil, age.ErrIncorrectIdentity
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), a.identities...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, age.ErrIncorrectIdentity
	}
	return r, err
}

// wrap encrypts a secret to the recipients and notes their names, since age's own stanzas do not tell them.
func (a *Age) wrap(secret string) ([]byte, error) {
	var buf bytes.Buffer
	to := append([]age.Recipient(nil), a.recipients...)
	names := []byte(strings.Join(a.names, "\n"))
	to[0] = withStanza{to[0], &age.Stanza{Type: recipientsStanza, Body: names}}
	w, err := age.Encrypt(&buf, to...)
	if err != nil {
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	if _, err := io.WriteString(w, secret+"\n"); err != nil {
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("crypto: wrap a data key: %w", err)
	}
	return buf.Bytes(), nil
}
