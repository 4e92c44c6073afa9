package restore

import (
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/crc32c"
	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// sums are the checksums of files, which are written in parts and in any order. It is safe for concurrent use, where each
// part is added once. It takes 16 bytes a file.
type sums []fileSum

type fileSum struct {
	parts atomic.Uint32
	bytes atomic.Int64 // that were added
}

// add adds what a file holds at an offset.
func (s sums) add(file int, f *backup.File, b []byte, off int64) {
	part := crc32c.Part(b, f.Size-off-int64(len(b)))
	for {
		old := s[file].parts.Load()
		if s[file].parts.CompareAndSwap(old, old^part) {
			break
		}
	}
	s[file].bytes.Add(int64(len(b)))
}

// of returns the checksum of a file, or nil when not all of it was added. What no piece covers is zero.
func (s sums) of(file int, f *backup.File) *uint32 {
	if s[file].bytes.Load() != f.Data {
		return nil
	}
	sum := crc32c.Sum(s[file].parts.Load(), f.Size)
	return &sum
}

// describe writes backup_manifest, by which pg_verifybackup can tell whether everything is as it was restored. written are
// the files that the restore has made itself, with their content.
func (r *run) describe(written map[string]string) error {
	m := &pgfile.BackupManifest{
		Files:    func(yield func(pgfile.ManifestFile) bool) { r.eachFile(written, yield) },
		Timeline: uint32(r.manifest.Timeline), Start: uint64(r.manifest.StartLSN), End: uint64(r.manifest.StopLSN),
	}
	if r.manifest.PGVersion >= 17_0000 {
		m.SystemID = r.manifest.SystemID
	}
	if err := r.dest.create("backup_manifest", func(w io.Writer) error { return m.Write(w) }); err != nil {
		return fmt.Errorf("restore: write backup_manifest: %w", err)
	}
	return nil
}

func (r *run) eachFile(written map[string]string, yield func(pgfile.ManifestFile) bool) {
	for i := range r.manifest.FileList {
		f := &r.manifest.FileList[i]
		if _, again := written[f.Path]; !again && !yield(pgfile.ManifestFile{Path: f.Path, Size: f.Size, CRC: r.dest.sums.of(i, f)}) {
			return
		}
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, path := range slices.Sorted(maps.Keys(written)) {
		content := []byte(written[path])
		sum := crc32.Checksum(content, table)
		if !yield(pgfile.ManifestFile{Path: path, Size: int64(len(content)), CRC: &sum}) {
			return
		}
	}
}
