package pgfile_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

func TestParseControlFindsEveryFlippedBit(t *testing.T) {
	for name, b := range seeds(t, "control", "pg*") {
		want, err := pgfile.ParseControl(b)
		require.NoError(t, err, name)
		end := map[uint32]int{1300: 292, 1700: 292, 1800: 296}[want.ControlVersion] // after the checksum
		require.NotZero(t, end, name)
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			got, err := pgfile.ParseControl(b)
			switch {
			case bit/8 >= end: // unused
				require.NoError(t, err, "%s, bit %d", name, bit)
				require.Equal(t, want, got)
			case bit/8 >= 8 && bit/8 < 12: // the version, which says where the checksum is
				require.Error(t, err, "%s, bit %d", name, bit)
			default:
				require.ErrorIs(t, err, pgfile.ErrControlCRC, "%s, bit %d", name, bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		for n := range 296 {
			_, err := pgfile.ParseControl(b[:n])
			require.Error(t, err, "%s cut to %d bytes", name, n)
		}
	}
}

func TestTornControl(t *testing.T) {
	var old []byte
	for name, b := range seeds(t, "control", "pg*") {
		if old != nil && bytes.Equal(old[8:12], b[8:12]) {
			torn := append(append([]byte(nil), old[:64]...), b[64:]...)
			_, err := pgfile.ParseControl(torn)
			require.ErrorIs(t, err, pgfile.ErrControlCRC, name)
		}
		old = b
	}
}

func TestParseControlRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing": nil, "a few bytes": make([]byte, 100), "zeros": make([]byte, 8192),
		"text": bytes.Repeat([]byte("not a control file\n"), 100),
	} {
		_, err := pgfile.ParseControl(b)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, pgfile.ErrControlCRC, name)
	}
}

func TestReadControl(t *testing.T) {
	pgdata := t.TempDir()
	_, _, err := pgfile.ReadControl(pgdata)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(pgdata, "global"), 0o700))
	path := filepath.Join(pgdata, pgfile.ControlPath)
	for name, b := range seeds(t, "control", "pg*") {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		want, err := pgfile.ParseControl(b)
		require.NoError(t, err)
		got, content, err := pgfile.ReadControl(pgdata)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
		require.Equal(t, b, content)

		b[20] ^= 1 // and nobody completes the write
		require.NoError(t, os.WriteFile(path, b, 0o600))
		_, _, err = pgfile.ReadControl(pgdata)
		require.ErrorIs(t, err, pgfile.ErrControlCRC, name)
	}
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, _, err = pgfile.ReadControl(pgdata)
	require.Error(t, err)
}
