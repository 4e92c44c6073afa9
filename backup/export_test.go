package backup

import (
	"bytes"
)

// Encode returns the text of a manifest.
func (m *Manifest) Encode() ([]byte, error) {
	var b bytes.Buffer
	err := m.encode(&b, m.ID.manifestKey())
	return b.Bytes(), err
}

// Check tells what a manifest says that cannot be.
func (m *Manifest) Check() error { return m.check() }
