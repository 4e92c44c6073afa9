package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// WrapKey wraps the secret half of a data key, as [Age.OpenKey] returned it, to the recipients: they can read then what
// was encrypted to its public half at any time. The content is no more post-quantum than the data key is.
func (a *Age) WrapKey(secret string) (wrapped []byte, err error) {
	if _, err := parseIdentity(secret); err != nil {
		return nil, err
	}
	return a.wrap(func(bool) (string, error) { return secret, nil })
}

// KeyHeader tells what stands in the open in front of a wrapped data key: the recipients that whoever wrapped it has
// named, if any, and the types of age's stanzas, of which most recipients have one. It needs no key, and so cannot tell
// whether that is authentic. Bytes that are no age file match fs.ErrInvalid.
func (a *Age) KeyHeader(wrapped []byte) (recipients, stanzas []string, err error) {
	header, err := age.ExtractHeader(bytes.NewReader(wrapped))
	if err != nil {
		return nil, nil, &malformedError{err}
	}
	var t types
	if _, err := age.DecryptHeader(header, &t); !t.called {
		return nil, nil, &malformedError{err}
	}
	return recipientsIn(header), t.stanzas, nil
}

// KeyOpeners names those of the identities at hand that open a wrapped data key, each as its recipient where it is one
// of age's own. It tries each, and so may take a touch of each device. Bytes that are no wrapped key match fs.ErrInvalid;
// any other error is that of an identity, such as a plugin that failed.
func (a *Age) KeyOpeners(wrapped []byte) (names []string, err error) {
	for i, id := range a.identities {
		one := &Age{identities: []age.Identity{id}}
		_, _, err := one.OpenKey(wrapped)
		var wrong *IdentityError
		switch {
		case err == nil:
			names = append(names, identityName(i, id))
		case !errors.As(err, &wrong):
			return nil, err
		}
	}
	return names, nil
}

// identityName is the public name of an identity: never its own text, which for most is a secret.
func identityName(i int, id age.Identity) string {
	switch id := id.(type) {
	case *age.X25519Identity:
		return id.Recipient().String()
	case *age.HybridIdentity:
		return id.Recipient().String()
	}
	return fmt.Sprintf("(identity #%d, of type %T)", i+1, id)
}

// types is an identity that unwraps nothing and notes the types of the stanzas that are not ours.
type types struct {
	stanzas []string
	called  bool
}

func (t *types) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	t.called = true
	for _, s := range stanzas {
		if !strings.HasPrefix(s.Type, "pgcairn") {
			t.stanzas = append(t.stanzas, s.Type)
		}
	}
	return nil, age.ErrIncorrectIdentity
}
