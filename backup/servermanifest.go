package backup

import (
	"context"
	"io"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
)

// describeBase writes what a server needs to know of a backup to send the difference to it, as a backup_manifest:
// which files it has, and where its WAL begins and ends.
//
// Visibility maps are left out, so that the server sends them whole. Its WAL summaries do not tell of the bits that
// records of heaps clear (see [pgfile.Incremental]).
func describeBase(m *Manifest, w io.Writer) error {
	files := func(yield func(pgfile.ManifestFile) bool) {
		for _, f := range m.FileList {
			if r, ok := pgfile.ParseRelation(f.Path); ok && r.Fork == "vm" {
				continue
			}
			if !yield(pgfile.ManifestFile{Path: f.Path, Size: f.Size}) {
				return
			}
		}
	}
	described := pgfile.BackupManifest{
		SystemID: m.SystemID, Files: files, Timeline: uint32(m.Timeline), Start: uint64(m.StartLSN), End: uint64(m.StopLSN),
	}
	return described.Write(w)
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
