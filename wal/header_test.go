package wal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

func TestReadHeader(t *testing.T) {
	s := segment(5).On(3)
	want := wal.Header{
		Magic: 0xD118, Timeline: 3, Start: 5 << 20, SystemID: systemID, SegmentSize: 1 << 20, PageSize: 8192,
	}
	for name, r := range map[string]io.Reader{
		"a segment":     bytes.NewReader(content(s)),
		"the header":    bytes.NewReader(content(s)[:40]),
		"byte for byte": iotest.OneByteReader(bytes.NewReader(content(s))),
	} {
		h, err := wal.ReadHeader(r)
		require.NoError(t, err, name)
		require.Equal(t, want, h, name)
		require.Equal(t, 18, h.Major())
	}
	require.Zero(t, wal.Header{Magic: 0xD117}.Major(), "a development version between 17 and 18")
}

func TestReadHeaderRefuses(t *testing.T) {
	le := binary.LittleEndian
	for name, spoil := range map[string]func(b []byte){
		"zeros":                   func(b []byte) { clear(b) },
		"PostgreSQL 12":           func(b []byte) { le.PutUint16(b, 0xD101) },
		"PostgreSQL 19":           func(b []byte) { le.PutUint16(b, 0xD11A) },
		"big-endian":              func(b []byte) { b[0], b[1] = b[1], b[0] },
		"a short header":          func(b []byte) { le.PutUint16(b[2:], 0) },
		"timeline 0":              func(b []byte) { le.PutUint32(b[4:], 0) },
		"in the middle":           func(b []byte) { le.PutUint64(b[8:], 5<<20+8192) },
		"segment size 0":          func(b []byte) { le.PutUint32(b[32:], 0) },
		"segment size 2 GiB":      func(b []byte) { le.PutUint32(b[32:], 1<<31) },
		"an odd segment size":     func(b []byte) { le.PutUint32(b[32:], 3<<20) },
		"page size 0":             func(b []byte) { le.PutUint32(b[36:], 0) },
		"page size 1000":          func(b []byte) { le.PutUint32(b[36:], 1000) },
		"page size 128 KiB":       func(b []byte) { le.PutUint32(b[36:], 128<<10) },
		"larger than its address": func(b []byte) { le.PutUint32(b[32:], 16<<20) },
	} {
		b := content(segment(5))
		spoil(b)
		_, err := wal.ReadHeader(bytes.NewReader(b))
		require.Error(t, err, name)
	}
	for n := range 40 {
		_, err := wal.ReadHeader(bytes.NewReader(content(segment(5))[:n]))
		if n == 0 {
			require.ErrorIs(t, err, io.EOF)
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%d bytes", n)
		}
	}
	_, err := wal.ReadHeader(iotest.ErrReader(io.ErrClosedPipe))
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

func TestRealHeaders(t *testing.T) {
	for name, b := range seeds(t, "header", "pg*") {
		h, err := wal.ReadHeader(bytes.NewReader(b))
		require.NoError(t, err, name)
		require.Equal(t, name, fmt.Sprintf("pg%d", h.Major()))
	}
}
