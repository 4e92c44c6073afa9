package repo

import "io"

// Cipher encrypts objects to data keys and keeps the secret halves of those wrapped. crypto.Age satisfies it; nothing
// here depends on how.
//
// A Cipher MUST be safe for concurrent use.
type Cipher interface {
	// NewKey makes a data key: its public half, which encrypts, and its secret half wrapped for those who may read.
	NewKey() (public string, wrapped []byte, err error)

	// OpenKey is the reverse, for a host that may read. Its error names whose identity would be needed. It matches
	// fs.ErrInvalid when the bytes are not a wrapped key, and only then.
	OpenKey(wrapped []byte) (public, secret string, err error)

	// WrapKey wraps the secret half of a data key that OpenKey has returned as NewKey does.
	WrapKey(secret string) (wrapped []byte, err error)

	// KeyHeader tells without a key, and so without proof, what a wrapped key says of itself: the names of those it was
	// wrapped for, and one kind of wrapping for each of them. KeyOpeners names the identities at hand that open it. Their
	// errors match fs.ErrInvalid as those of OpenKey.
	KeyHeader(wrapped []byte) (recipients, kinds []string, err error)
	KeyOpeners(wrapped []byte) (identities []string, err error)

	// Recipients names those for whom NewKey wraps.
	Recipients() []string

	// Fingerprint identifies those for whom NewKey wraps, or is empty when it cannot tell.
	Fingerprint() string

	// Encrypt returns a writer that encrypts to the public half of a data key; its Close completes the ciphertext.
	// head stands in front in the clear, covered by the ciphertext's authentication.
	Encrypt(w io.Writer, public string, head []byte) (io.WriteCloser, error)

	// Head reads the head of a ciphertext without a key.
	Head(r io.Reader) ([]byte, error)

	// Decrypt returns the plaintext; it MUST authenticate every byte before returning it and MUST fail on truncation.
	Decrypt(r io.Reader, secret string) (io.Reader, error)

	// DecryptAt is Decrypt with random access, on a ciphertext of size bytes; it returns the plaintext's size.
	DecryptAt(r io.ReaderAt, size int64, secret string) (io.ReaderAt, int64, error)
}
