package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a log sequence number: a position in the WAL, in bytes from its start.
type LSN uint64

// ParseLSN parses PostgreSQL's text form, two hexadecimal numbers with a slash: 16/B374D848.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := parseHex(hi)
	l, err2 := parseHex(lo)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("wal: %q is not an LSN: want two hexadecimal numbers like 16/B374D848", s)
	}
	return LSN(h<<32 | l), nil
}

// parseHex parses 1 to 8 hexadecimal digits, as pg_lsn's input function does.
func parseHex(s string) (uint64, error) {
	if len(s) == 0 || len(s) > 8 || s[0] == '+' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 16, 32)
}

// String returns PostgreSQL's text form.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// MarshalText implements encoding.TextMarshaler.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}
