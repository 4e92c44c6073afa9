package restore

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

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

	// Earlier are directories that restores which were killed here have used instead, by the paths of the links to them.
	Earlier map[string][]string `json:"earlier,omitempty"`
}

// all returns all directories that links have led to, by their paths.
func (m *mark) all() map[string][]string {
	all := map[string][]string{}
	for link, places := range m.Earlier {
		all[link] = slices.Clone(places)
	}
	for link, place := range m.links() {
		all[link] = append(all[link], place)
	}
	return all
}

// remember has the mark tell of those directories that it does not use itself.
func (m *mark) remember(places map[string][]string) {
	m.Earlier = map[string][]string{}
	for link, all := range places {
		for _, place := range all {
			if !m.uses(place) {
				m.Earlier[link] = append(m.Earlier[link], place)
			}
		}
	}
}

func (m *mark) uses(place string) bool {
	for _, location := range m.links() {
		if sameDirectory(place, location) {
			return true
		}
	}
	return false
}

// warnings tell what is left of restores that were killed.
func (m *mark) warnings() []string {
	var all []string
	for _, link := range slices.Sorted(maps.Keys(m.Earlier)) {
		for _, place := range m.Earlier[link] {
			if _, err := os.Lstat(place); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			all = append(all, fmt.Sprintf("remove what a restore that was cut short has left in %s, where it put %s", place, link))
		}
	}
	return all
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
