package repo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// headMagic begins the payload of every object's head; the digit is the version of the object layout.
const headMagic = "pgcairn1"

// maxLabel bounds a label in bytes.
const maxLabel = 256

// head is the first frame of every stream and pack.
//
//	"pgcairn1" | uvarint length of key | key | label
//
// The key is the object's own, so that an object put under another's name is noticed.
type head struct {
	key   string
	label []byte
}

// frame encodes the head as a skippable frame.
func (h head) frame() []byte {
	p := []byte(headMagic)
	p = binary.AppendUvarint(p, uint64(len(h.key)))
	p = append(p, h.key...)
	p = append(p, h.label...)
	return append(appendSkippable(nil, skippableHead, len(p)), p...)
}

// readHead reads and checks the head of the object called key. The returned frame is the bytes it was read from.
func readHead(r io.Reader, key string) (h head, frame []byte, err error) {
	frame, err = readSkippable(r, skippableHead)
	if err != nil {
		return head{}, nil, fmt.Errorf("head: %w", err)
	}
	p, ok := bytes.CutPrefix(frame[8:], []byte(headMagic))
	if !ok {
		return head{}, nil, errors.New("head: not an object of pgcairn")
	}
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) || len(p)-w-int(n) > maxLabel {
		return head{}, nil, errors.New("head: malformed")
	}
	h = head{key: string(p[w : w+int(n)]), label: p[w+int(n):]}
	if h.key != key {
		return head{}, nil, fmt.Errorf("it was written as %q", h.key)
	}
	return h, frame, nil
}
