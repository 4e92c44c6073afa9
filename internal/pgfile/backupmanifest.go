package pgfile

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"
)

// BackupManifest is the file of that name that pg_basebackup leaves, pg_verifybackup reads, and a server of 17 or later is
// sent to know what an incremental backup builds on ("Backup Manifest Format" in PostgreSQL's documentation).
type BackupManifest struct {
	SystemID   uint64 // 0 for servers before 17, which do not know it
	Files      iter.Seq[ManifestFile]
	Timeline   uint32 // of the WAL that makes the backup consistent
	Start, End uint64 // LSNs of that
}

// ManifestFile is a file of a BackupManifest.
type ManifestFile struct {
	Path string // slash-separated, below the data directory
	Size int64
	CRC  *uint32 // CRC-32C of its content; nil when it is not known
}

// Write writes the manifest.
func (m *BackupManifest) Write(w io.Writer) error {
	sum := sha256.New()
	b := bufio.NewWriter(io.MultiWriter(w, sum)) // keeps its first error
	if m.SystemID == 0 {
		_, _ = b.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n")
	} else {
		_, _ = fmt.Fprintf(b, "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n", m.SystemID)
	}
	_, _ = b.WriteString("\"Files\": [")
	comma := ""
	for f := range m.Files {
		if err := f.write(b, comma); err != nil {
			return err
		}
		comma = ","
	}
	_, _ = fmt.Fprintf(b, "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": %d, \"Start-LSN\": \"%X/%X\", \"End-LSN\": \"%X/%X\" }\n],\n",
		m.Timeline, m.Start>>32, uint32(m.Start), m.End>>32, uint32(m.End))
	if err := b.Flush(); err != nil {
		return err
	}
	// The checksum is of all lines before its own.
	_, err := fmt.Fprintf(w, "\"Manifest-Checksum\": \"%x\"}\n", sum.Sum(nil))
	return err
}

func (f *ManifestFile) write(b *bufio.Writer, comma string) error {
	// JSON holds no name that is not UTF-8.
	name, path := "Encoded-Path", hex.EncodeToString([]byte(f.Path))
	if utf8.ValidString(f.Path) {
		name, path = "Path", f.Path
	}
	quoted, err := json.Marshal(path)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(b, "%s\n{ \"%s\": %s, \"Size\": %d", comma, name, quoted, f.Size)
	if f.CRC != nil {
		// The server writes the checksum as it has it in memory.
		_, _ = fmt.Fprintf(b, ", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%x\"", binary.LittleEndian.AppendUint32(nil, *f.CRC))
	}
	_, err = b.WriteString(" }")
	return err
}
