package wal_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

func TestParseLSN(t *testing.T) {
	for text, want := range map[string]wal.LSN{
		"0/0": 0, "0/1": 1, "1/0": 1 << 32, "16/B374D848": 0x16_B374D848, "16/b374d848": 0x16_B374D848,
		"00000016/0000000A": 0x16_0000000A, "FFFFFFFF/FFFFFFFF": 1<<64 - 1,
	} {
		got, err := wal.ParseLSN(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := wal.ParseLSN(got.String())
		require.NoError(t, err)
		require.Equal(t, want, again)
	}
	for _, text := range []string{
		"", "/", "0", "0/", "/0", "0/0/0", "0//0", " 0/0", "0/0 ", "0 /0", "g/0", "0/g", "+0/0", "0/+0", "-1/0", "0/-1", "0x1/0", "0/0x1",
		"000000001/0", "0/000000001", "0/1_0", "0/\x00", "0/0\n", "①/0",
	} {
		_, err := wal.ParseLSN(text)
		require.Error(t, err, "%q", text)
	}
}

func TestLSNString(t *testing.T) {
	for lsn, want := range map[wal.LSN]string{0: "0/0", 0x16_B374D848: "16/B374D848", 1 << 32: "1/0", 0xA_0000000B: "A/B"} {
		require.Equal(t, want, lsn.String())
	}
}

func TestLSNAsJSON(t *testing.T) {
	b, err := json.Marshal(map[string]wal.LSN{"at": 0x16_B374D848})
	require.NoError(t, err)
	require.JSONEq(t, `{"at":"16/B374D848"}`, string(b))
	var got map[string]wal.LSN
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, wal.LSN(0x16_B374D848), got["at"])
	require.Error(t, json.Unmarshal([]byte(`{"at":"x"}`), &got))
}
