package repo

import "fmt"

// Compression is how content is compressed. As a text, on a command line or in JSON, it is one of the names below; the
// zero value is the default, [ZstdFastest].
type Compression string

// The compressions. What does not shrink is stored as it is, whichever is asked for. An encoder of zstd takes 2 MiB of
// memory, of better 6; there are as many as frames are compressed at one time, and no more than processors.
const (
	ZstdFastest  Compression = "zstd-fastest" // about zstd -1
	Zstd         Compression = "zstd"         // about zstd -3
	ZstdBetter   Compression = "zstd-better"  // about zstd -7
	S2           Compression = "s2"           // as fast as LZ4, and for packs alone; stock zstd does not read it
	Uncompressed Compression = "none"         // for a store that compresses by itself
)

// ParseCompression is the reverse of [Compression.String]. The empty text is the default.
func ParseCompression(s string) (Compression, error) {
	switch c := Compression(s); c {
	case "", ZstdFastest, Zstd, ZstdBetter, S2, Uncompressed:
		return c, nil
	}
	return "", fmt.Errorf("unknown compression %q: it is one of %s, %s, %s, %s, %s", s, ZstdFastest, Zstd, ZstdBetter, S2, Uncompressed)
}

// String returns the name of the compression, also of the default.
func (c Compression) String() string {
	if c == "" {
		return string(ZstdFastest)
	}
	return string(c)
}

// MarshalText implements encoding.TextMarshaler. The default is the empty text, as it was given.
func (c Compression) MarshalText() ([]byte, error) {
	_, err := ParseCompression(string(c))
	return []byte(c), err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Compression) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCompression(string(b))
	return err
}

// codec is what frames of that compression are.
func (c Compression) codec() Codec {
	if c == S2 {
		return CodecS2
	}
	return CodecZstd
}
