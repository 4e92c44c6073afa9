package crypto

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// Stanzas of our own in the headers of age files. Programs that do not know them ignore them; the header's MAC covers
// them.
const (
	headStanza       = "pgcairn"            // body: the head given to Encrypt
	recipientsStanza = "pgcairn-recipients" // body: the names of a wrapped key's recipients, a line each
)

// maxHeader bounds how much of an object is looked at for its age header. age itself reads on as long as there are
// stanzas.
const maxHeader = 1 << 20

// errNoStanza means that a well-formed age header lacks the stanza asked for.
var errNoStanza = errors.New("no such stanza in the age header")

// postQuantum is the label that age's recipients of that kind have.
const postQuantum = "postquantum"

// withStanza is a recipient that adds one stanza to those of another, for one file.
type withStanza struct {
	age.Recipient
	stanza *age.Stanza
	labels []string // of the recipient, once it has wrapped
}

func (r *withStanza) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	s, _, err := r.WrapWithLabels(fileKey)
	return s, err
}

// WrapWithLabels passes the labels on: without them age would see a post-quantum recipient mixed with another kind.
func (r *withStanza) WrapWithLabels(fileKey []byte) (s []*age.Stanza, labels []string, err error) {
	if l, ok := r.Recipient.(age.RecipientWithLabels); ok {
		s, labels, err = l.WrapWithLabels(fileKey)
	} else {
		s, err = r.Recipient.Wrap(fileKey)
	}
	r.labels = labels
	return append(s, r.stanza), labels, err
}

// Head returns the head that [Age.Encrypt] put in front of a ciphertext. It needs no key, and so cannot tell whether
// the head is authentic: decrypting does.
func (a *Age) Head(r io.Reader) ([]byte, error) {
	header, err := age.ExtractHeader(io.LimitReader(r, maxHeader))
	if err != nil {
		return nil, fmt.Errorf("crypto: %w", err)
	}
	head, err := stanzaBody(header, headStanza)
	if err != nil {
		return nil, fmt.Errorf("crypto: %w", err)
	}
	return head, nil
}

// stanzaBody finds a stanza of ours in an age header.
func stanzaBody(header []byte, typ string) ([]byte, error) {
	c := capture{typ: typ}
	// The captured stanzas are all that is wanted; nothing is unwrapped.
	if _, err := age.DecryptHeader(header, &c); !c.called {
		return nil, err
	}
	if !c.found {
		return nil, errNoStanza
	}
	return c.body, nil
}

// capture is an identity that unwraps nothing and looks at the stanzas age has parsed.
type capture struct {
	typ           string
	body          []byte
	called, found bool
}

func (c *capture) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	c.called = true
	for _, s := range stanzas {
		if s.Type == c.typ {
			c.body, c.found = s.Body, true
		}
	}
	return nil, age.ErrIncorrectIdentity
}
