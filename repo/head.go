package repo

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// headMagic begins the payload of every object's head; the digit is the version of the object layout.
const headMagic = "pgcairn1"

// maxLabel bounds a label in bytes.
const maxLabel = 256

// maxHead bounds the payload of a head in bytes.
const maxHead = len(headMagic) + binary.MaxVarintLen16 + maxKey + maxLabel + sumSize

// head is the first frame of every stream and pack.
//
//	"pgcairn1" | uvarint length of key | key | label | XXH3-128 of all before
//
// The key is the object's own, so that an object put under another's name is noticed. The head has a checksum of its
// own because a label is read without the rest.
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
	p = appendSum(p, p)
	return append(appendSkippable(nil, skippableHead, len(p)), p...)
}

// readHead reads and checks the head of the object called key.
func readHead(r io.Reader, key string) (head, error) {
	frame, err := readSkippable(r, skippableHead, maxHead)
	if err != nil {
		return head{}, fmt.Errorf("head: %w", err)
	}
	p, ok := bytes.CutPrefix(frame[8:], []byte(headMagic))
	if !ok {
		return head{}, errors.New("head: not an object of pgcairn")
	}
	p, ok = cutSum(p, []byte(headMagic))
	if !ok {
		return head{}, errors.New("head: checksum mismatch")
	}
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) || len(p)-w-int(n) > maxLabel {
		return head{}, errors.New("head: malformed")
	}
	h := head{key: string(p[w : w+int(n)]), label: p[w+int(n):]}
	if h.key != key {
		return head{}, fmt.Errorf("it was written as %q", h.key)
	}
	return h, nil
}

// front is what stands in the clear, authenticated, before an encrypted object, for those who have no key:
//
//	id of the data key [16]byte | label | XXH3-128 of the object's key, a newline, and all before
type front struct {
	id    string // of the data key, in hexadecimal digits
	label []byte
}

func (f front) bytes(key string) []byte {
	b, _ := hex.DecodeString(f.id)
	b = append(b, f.label...)
	return appendSum(b, []byte(key+"\n"), b)
}

// frontSize is how much of an encrypted object is looked at for its header: a post-quantum stanza takes 1.6 KiB.
const frontSize = 8 << 10

// readFront finds the front in the first bytes of the encrypted object called key.
func readFront(c Cipher, key string, object []byte) (front, error) {
	b, err := c.Head(bytes.NewReader(object))
	if err != nil {
		return front{}, err
	}
	b, ok := cutSum(b, []byte(key+"\n"))
	if !ok {
		return front{}, errors.New("head: checksum mismatch: damaged, or another object's")
	}
	if len(b) < keyIDSize || len(b) > keyIDSize+maxLabel {
		return front{}, errors.New("head: malformed")
	}
	return front{id: hex.EncodeToString(b[:keyIDSize]), label: b[keyIDSize:]}, nil
}

// sumSize is the size in bytes of an XXH3-128 checksum in canonical (big-endian) form.
const sumSize = 16

// appendSum appends the checksum of parts to b.
func appendSum(b []byte, parts ...[]byte) []byte {
	h := xxh3.New128()
	for _, p := range parts {
		_, _ = h.Write(p)
	}
	return h.Sum(b)
}

// cutSum cuts the checksum of before and all of b off b, or tells that it is another.
func cutSum(b, before []byte) ([]byte, bool) {
	if len(b) < sumSize {
		return nil, false
	}
	b, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	return b, bytes.Equal(appendSum(nil, before, b), sum)
}
