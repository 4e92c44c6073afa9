package pgfile_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/stretchr/testify/require"
)

func TestBackupManifest(t *testing.T) {
	t.Parallel()
	crc := uint32(0x12345678)
	m := &pgfile.BackupManifest{
		SystemID: 1<<64 - 1, Timeline: 10, Start: 0x1_0000_0028, End: 0xFFFFFFFF,
		Files: slices.Values([]pgfile.ManifestFile{{Path: `a "b"`, Size: 1 << 40, CRC: &crc}, {Path: "\xffx"}}),
	}
	var b strings.Builder
	require.NoError(t, m.Write(&b))
	want := `{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 18446744073709551615,
"Files": [
{ "Path": "a \"b\"", "Size": 1099511627776, "Checksum-Algorithm": "CRC32C", "Checksum": "78563412" },
{ "Encoded-Path": "ff78", "Size": 0 }
],
"WAL-Ranges": [
{ "Timeline": 10, "Start-LSN": "1/28", "End-LSN": "0/FFFFFFFF" }
],
`
	require.Equal(t, fmt.Sprintf("%s\"Manifest-Checksum\": \"%x\"}\n", want, sha256.Sum256([]byte(want))), b.String())

	m.SystemID = 0
	b.Reset()
	require.NoError(t, m.Write(&b))
	require.True(t, strings.HasPrefix(b.String(), "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n"))
	require.Error(t, m.Write(brokenWriter{}))
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }
