package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
)

// describeBase writes what a server needs to know of a backup to send the difference to it, as a backup_manifest
// ("Backup Manifest Format" in PostgreSQL's documentation): which files it has, and where its WAL begins and ends.
//
// Visibility maps are left out, so that the server sends them whole. Its WAL summaries do not tell of the bits that
// records of heaps clear (see [pgfile.Incremental]).
func describeBase(m *Manifest, w io.Writer) error {
	sum := sha256.New()
	b := bufio.NewWriter(io.MultiWriter(w, sum)) // keeps its first error
	_, _ = fmt.Fprintf(b, "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n\"Files\": [", m.SystemID)
	comma := ""
	for _, f := range m.FileList {
		if r, ok := pgfile.ParseRelation(f.Path); ok && r.Fork == "vm" {
			continue
		}
		p, err := json.Marshal(f.Path)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(b, "%s\n{ \"Path\": %s, \"Size\": %d }", comma, p, f.Size)
		comma = ","
	}
	_, _ = fmt.Fprintf(b, "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": %d, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }\n],\n",
		m.Timeline, m.StartLSN, m.StopLSN)
	if err := b.Flush(); err != nil {
		return err
	}
	// The checksum is of all lines before its own.
	_, err := fmt.Fprintf(w, "\"Manifest-Checksum\": \"%x\"}\n", sum.Sum(nil))
	return err
}

const serverManifests = "server-manifests/"

// keepServerManifest stores what a server says of a full backup that it has sent.
func keepServerManifest(ctx context.Context, r *repo.Repo, id ID, from io.Reader) error {
	_, err := r.Put(ctx, serverManifests+string(id), nil, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	return err
}

// ServerManifest opens the backup_manifest of a full backup that the server has sent by [Replication], as pg_verifybackup
// reads it: it lists the files with checksums (CRC-32C). Of any other backup there is none, which is an error matching
// fs.ErrNotExist. The error is a *[repo.CorruptError] when it is damaged, by then or while it is read.
func ServerManifest(ctx context.Context, r *repo.Repo, id ID) (io.ReadCloser, error) {
	if _, err := ParseID(string(id)); err != nil {
		return nil, err
	}
	return r.OpenObject(ctx, serverManifests+string(id))
}
