package pgwire

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// walMessage is a message of WAL as walsender.c builds it.
func walMessage(at uint64, data string) []byte {
	b := []byte{'w'}
	for _, v := range []uint64{at, at + 100, 1} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return append(b, data...)
}

func keepalive(end uint64, reply byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'k'}, end)
	return append(binary.BigEndian.AppendUint64(b, 1), reply)
}

func TestParseMessage(t *testing.T) {
	m, err := ParseMessage(walMessage(0x1_00000028, "wal"))
	require.NoError(t, err)
	require.Equal(t, Message{Kind: WAL, Start: 0x1_00000028, ServerEnd: 0x1_0000008C, Clock: 1, Data: []byte("wal")}, m)
	require.EqualValues(t, 0x1_0000002B, m.End())
	m, err = ParseMessage(keepalive(7, 1))
	require.NoError(t, err)
	require.Equal(t, Message{Kind: Keepalive, ServerEnd: 7, Clock: 1, Reply: true}, m)
	m, err = ParseMessage(append(keepalive(7, 0), "of a later version"...))
	require.NoError(t, err)
	require.False(t, m.Reply)

	for name, b := range map[string][]byte{
		"nothing": {}, "another kind": []byte("x23456789012345678901234567"), "short WAL": walMessage(1, "")[:24],
		"a short keepalive": keepalive(7, 1)[:17], "beyond the end": walMessage(1<<64-2, "wal"),
	} {
		_, err := ParseMessage(b)
		require.Error(t, err, name)
	}
}

func TestStatus(t *testing.T) {
	b := Status{Write: 0x10, Flush: 0x20, Apply: 0, Time: time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC), Reply: true}.Encode(nil)
	require.Equal(t, "72"+"0000000000000010"+"0000000000000020"+"0000000000000000"+"00000000000f4240"+"01", hex.EncodeToString(b))
	b = Status{Time: time.Date(1999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)}.Encode(nil)
	require.Equal(t, "ffffffffffffffff00", hex.EncodeToString(b[25:]))
}

func FuzzParseMessage(f *testing.F) {
	f.Add(walMessage(0x1000000, "content"))
	f.Add(keepalive(1, 0))
	f.Add([]byte("w"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			require.Equal(t, Message{}, m)
			return
		}
		require.Contains(t, []Kind{WAL, Keepalive}, m.Kind)
		require.LessOrEqual(t, len(m.Data), len(b)-keepaliveSize+1)
		require.GreaterOrEqual(t, m.End(), m.Start)
	})
}

func TestParseAnswers(t *testing.T) {
	rows := func(values ...string) (row [][]byte) {
		for _, v := range values {
			row = append(row, []byte(v))
		}
		return row
	}
	s, err := parseSystem(rows("7500000000000000042", "3", "1/16B3748"))
	require.NoError(t, err)
	require.Equal(t, System{ID: 7_500_000_000_000_000_042, Timeline: 3, Position: 0x1_016B3748}, s)
	for _, bad := range [][][]byte{rows("x", "1", "0/0"), rows("1", "0", "0/0"), rows("1", "-1", "0/0"), rows("1", "1", "0"), rows("1", "1", "/"), rows("1", "1", "100000000/0")} {
		_, err := parseSystem(bad)
		require.Error(t, err, "%s", bad)
	}

	n, err := parseNext(rows("2", "0/3000060"))
	require.NoError(t, err)
	require.Equal(t, &Next{Timeline: 2, Start: 0x3000060}, n)
	for _, bad := range [][][]byte{rows("2"), rows("0", "0/1"), rows("2", "zero"), {nil, nil}} {
		_, err := parseNext(bad)
		require.Error(t, err, "%s", bad)
	}

	for text, want := range map[string]uint32{"16MB": 16 << 20, "1GB": 1 << 30, "1024kB": 1 << 20} {
		got, err := parseSize(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"", "16", "MB", "-1MB", "9GB", "0MB", "16 MB", "99999999999MB"} {
		_, err := parseSize(bad)
		require.Error(t, err, bad)
	}
	for text, want := range map[string]int{"18.4": 18, "9.6.24": 9, "19devel": 19, "": 0, "x": 0} {
		require.Equal(t, want, major(text), text)
	}
}

func FuzzParseAnswers(f *testing.F) {
	f.Add([]byte("1"), []byte("2"), []byte("0/1"))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		_, _ = parseSystem([][]byte{a, b, c})
		if n, err := parseNext([][]byte{b, c}); err == nil {
			again, err := parseLSN([]byte(formatLSN(n.Start)))
			require.NoError(t, err)
			require.Equal(t, n.Start, again)
		}
		_, _ = parseSize(string(a))
		_ = major(string(a))
	})
}

func TestSlotNames(t *testing.T) {
	for _, good := range []string{"a", "pgcairn_1", "0", "x23456789012345678901234567890123456789012345678901234567890123"} {
		require.NoError(t, CheckSlotName(good))
	}
	for _, bad := range []string{"", "A", "a-b", "a b", "a\"", "é", "x234567890123456789012345678901234567890123456789012345678901234"} {
		require.Error(t, CheckSlotName(bad), bad)
	}
}
