package restore

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
)

// journalFile lies beside the mark. It lets the restore after one that was killed know what that one has brought of frames
// that are needed in part, for which the manifest has no hash to tell by.
const journalFile = markFile + ".frames"

// journalRecord is the size of a record: what it is about, and the hash of the bytes that are needed.
const journalRecord = 2 * len(repo.Hash{})

// journal is the content of journalFile: records, one behind the other. What it says is never believed without comparing
// it with the files, so it is not synced, and it does not matter what a crash makes of it.
type journal struct {
	backup backup.ID
	mu     sync.Mutex
	f      *os.File
	hashes map[repo.Hash]repo.Hash // that were there when it was opened
}

// openJournal opens the journal; where nothing is used again, a new one.
func (d *destination) openJournal() (*journal, error) {
	flags := os.O_RDWR | os.O_CREATE | os.O_APPEND
	if !d.reuse {
		flags |= os.O_TRUNC
	}
	f, err := d.root.OpenFile(journalFile, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	j := &journal{backup: d.manifest.ID, f: f, hashes: map[repo.Hash]repo.Hash{}}
	b, err := io.ReadAll(f)
	if err == nil {
		// The last record may have been cut off.
		err = f.Truncate(int64(len(b) / journalRecord * journalRecord))
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("restore: %w", err)
	}
	for ; len(b) >= journalRecord; b = b[journalRecord:] {
		about, hash := repo.Hash(b[:16]), repo.Hash(b[16:32])
		j.hashes[about] = hash
	}
	return j, nil
}

// about names what a frame is needed for: the same pieces of the same backup.
func (j *journal) about(p *backup.PackPieces, frame int) repo.Hash {
	b := fmt.Appendf(nil, "%s\n%s\n%d\n", j.backup, p.Key, frame)
	for _, c := range p.Pieces[frame] {
		b = binary.AppendVarint(b, int64(c.File))
		b = binary.AppendVarint(b, c.Offset)
		b = binary.AppendVarint(b, int64(c.Length))
	}
	return repo.HashOf(b)
}

// hash returns the hash that the bytes which are needed of a frame have, as far as it is known.
func (j *journal) hash(p *backup.PackPieces, frame int) (repo.Hash, bool) {
	if !inPart(p.Pieces[frame]) {
		return p.Frames[frame].Hash, true
	}
	h, ok := j.hashes[j.about(p, frame)]
	return h, ok
}

// note keeps the hash of the bytes that are needed of a frame.
func (j *journal) note(p *backup.PackPieces, frame int, needed []byte) error {
	about, hash := j.about(p, frame), repo.HashOf(needed)
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.f.Write(append(about[:], hash[:]...)); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// inPart tells whether a frame has bytes that are not needed.
func inPart(pieces []backup.Piece) bool {
	for _, c := range pieces {
		if c.File == backup.NoFile {
			return true
		}
	}
	return false
}
