package restore

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// markFile lies in a directory while a restore is going on there. What it says lets the next restore go on after
// one that was killed.
const markFile = "pgcairn.restore"

// markTemp is what becomes markFile.
const markTemp = markFile + ".tmp"

// mark is the content of markFile.
type mark struct {
	Backup      backup.ID         `json:"backup"`
	SystemID    uint64            `json:"system_id,omitempty,string"` // of the cluster that was here before, if one was
	Control     [32]byte          `json:"control"`                    // SHA-256 of the pg_control to come
	Tablespaces map[string]string `json:"tablespaces"`                // directories by OID
	WAL         string            `json:"wal,omitempty"`              // directory of pg_wal, where that is a link
}

// writeMark marks the directory. Whatever happens, there is the mark before or this one, whole.
func (d *destination) writeMark() error {
	text, err := json.Marshal(d.mark)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := d.root.RemoveAll(markTemp); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := d.createText(markTemp, string(text)); err != nil {
		return err
	}
	if err := d.root.Rename(markTemp, markFile); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return d.sync(".")
}

// readMark returns what a restore that was killed here has left, or nil when there was none, or when what it made has
// been started since.
func (d *destination) readMark() (*mark, error) {
	b, err := d.readFile(markFile, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	m := &mark{}
	if json.Unmarshal(b, m) != nil {
		return nil, nil //nolint:nilerr // it says nothing, and the rest of the directory has to speak for itself
	}
	control, err := d.readFile(pgfile.ControlPath, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	// Killed at the very end: everything is in place. Once a server has run on it, pg_control is another.
	if sha256.Sum256(control) == m.Control {
		if _, err := d.root.Lstat("postmaster.pid"); errors.Is(err, fs.ErrNotExist) {
			return m, nil
		}
	}
	return nil, nil
}
