package pgfile_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// incremental is a file with the given words and padding, and a page of x for each of its blocks.
func incremental(magic, count, length uint32, blocks ...uint32) []byte {
	var b []byte
	for _, w := range append([]uint32{magic, count, length}, blocks...) {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	if len(blocks) > 0 {
		b = append(b, make([]byte, 1024-len(b)%1024)...)
	}
	return append(b, bytes.Repeat([]byte("x"), 1024*len(blocks))...)
}

const magic = 0xd3ae1f0d

func TestReadIncremental(t *testing.T) {
	many := make([]uint32, 400)
	for i := range many {
		many[i] = uint32(2*i + 1)
	}
	exact := many[:(1024-12)/4] // fills the first page
	for name, c := range map[string]struct {
		b           []byte
		want        pgfile.Incremental
		pages, size int
	}{
		"no block":         {incremental(magic, 0, 7), pgfile.Incremental{Length: 7, Head: 12}, 7, 12},
		"one block":        {incremental(magic, 1, 7, 3), pgfile.Incremental{Length: 7, Blocks: []uint32{3}, Head: 1024}, 7, 2048},
		"beyond length":    {incremental(magic, 2, 7, 3, 9), pgfile.Incremental{Length: 7, Blocks: []uint32{3, 9}, Head: 1024}, 10, 3072},
		"a head of two":    {incremental(magic, 400, 800, many...), pgfile.Incremental{Length: 800, Blocks: many, Head: 2048}, 800, 402 << 10},
		"a head that fits": {incremental(magic, 253, 800, exact...), pgfile.Incremental{Length: 800, Blocks: exact, Head: 1024}, 800, 254 << 10},
		"too long":         {incremental(magic, 0, 5000), pgfile.Incremental{Length: 1000, Head: 12}, 1000, 12},
	} {
		if name == "a head that fits" { // and so is not padded
			c.b = slices.Delete(c.b, 1024, 2048)
		}
		r := bytes.NewReader(c.b)
		got, err := pgfile.ReadIncremental(r, 1024, 1000)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
		require.EqualValues(t, c.pages, got.Pages(), name)
		require.EqualValues(t, c.size, got.Size(1024), name)
		require.Len(t, c.b, c.size, name)
		require.EqualValues(t, int64(len(c.b))-got.Head, r.Len(), "%s: the pages are left", name)
	}
}

func TestReadIncrementalRefuses(t *testing.T) {
	padded := incremental(magic, 1, 7, 3)
	padded[500] = 1
	for name, b := range map[string][]byte{
		"nothing": {}, "another file": incremental(0x1234, 0, 7), "the other byte order": incremental(0x0d1faed3, 0, 7),
		"too many blocks": incremental(magic, 1001, 7, make([]uint32, 1001)...), "a block too far": incremental(magic, 1, 7, 1000),
		"a block twice": incremental(magic, 2, 7, 3, 3), "blocks that descend": incremental(magic, 2, 7, 3, 2), "padding with content": padded,
	} {
		_, err := pgfile.ReadIncremental(bytes.NewReader(b), 1024, 1000)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, io.EOF, name)
	}
	for name, b := range seeds(t, "incremental", "pg*") {
		i, err := pgfile.ReadIncremental(bytes.NewReader(b), 8192, 131072)
		require.NoError(t, err, name)
		for n := range int(i.Head) {
			_, err := pgfile.ReadIncremental(bytes.NewReader(b[:n]), 8192, 131072)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%s cut to %d bytes", name, n)
		}
	}
}

func TestIncrementalOf(t *testing.T) {
	for p, want := range map[string]string{
		"base/5/INCREMENTAL.16384":                         "base/5/16384",
		"base/5/INCREMENTAL.16384.1":                       "base/5/16384.1",
		"base/5/INCREMENTAL.16384_vm":                      "base/5/16384_vm",
		"global/INCREMENTAL.1262":                          "global/1262",
		"pg_tblspc/16385/PG_17_202406281/5/INCREMENTAL.1":  "pg_tblspc/16385/PG_17_202406281/5/1",
		"base/5/16384":                                     "",
		"base/5/INCREMENTAL.":                              "",
		"base/5/INCREMENTAL.x":                             "",
		"base/5/INCREMENTAL.t3_16384":                      "",
		"INCREMENTAL.16384":                                "",
		"base/5/incremental.16384":                         "",
		"mine/INCREMENTAL.16384":                           "",
		"pg_tblspc/16385/PG_17_202406281/x/INCREMENTAL.12": "",
	} {
		got, ok := pgfile.IncrementalOf(p)
		require.Equal(t, want, got, p)
		require.Equal(t, want != "", ok, p)
	}
}

func FuzzReadIncremental(f *testing.F) {
	for _, b := range seeds(f, "incremental", "pg*") {
		f.Add(b, uint32(131072))
	}
	f.Fuzz(func(t *testing.T, b []byte, relSegPages uint32) {
		r := bytes.NewReader(b)
		i, err := pgfile.ReadIncremental(r, 8192, relSegPages%(1<<20))
		if err != nil {
			require.Equal(t, pgfile.Incremental{}, i)
			return
		}
		require.EqualValues(t, len(b)-r.Len(), i.Head)
		require.GreaterOrEqual(t, i.Size(8192), i.Head)
		require.LessOrEqual(t, i.Pages(), relSegPages%(1<<20))
		require.True(t, slices.IsSorted(i.Blocks))
	})
}
