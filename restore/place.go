package restore

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
)

// WALDirectoryError means that pg_wal cannot go where [Options.WALDirectory] says. Nothing was changed.
type WALDirectoryError struct {
	Directory string
	Reason    string
}

func (e *WALDirectoryError) Error() string {
	return fmt.Sprintf("restore: pg_wal cannot go to %s: %s", e.Directory, e.Reason)
}

// placeWAL returns the absolute path of the directory for pg_wal, or nothing when it is to be in the data directory dir.
func placeWAL(dir, location string) (string, error) {
	if location == "" {
		return "", nil
	}
	abs, err := filepath.Abs(location)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if !beside(abs, dir) {
		return "", &WALDirectoryError{Directory: abs, Reason: "it and " + dir + " are not beside each other"}
	}
	return abs, nil
}

// links returns the symbolic links of the data directory: where each leads to, by its slash-separated path.
func (m *mark) links() map[string]string {
	links := make(map[string]string, len(m.Tablespaces)+1)
	for oid, location := range m.Tablespaces {
		links["pg_tblspc/"+oid] = location
	}
	if m.WAL != "" {
		links["pg_wal"] = m.WAL
	}
	return links
}

// tablespacePath is where the data directory has a tablespace, or the link to it.
func tablespacePath(t backup.Tablespace) string {
	return "pg_tblspc/" + strconv.FormatUint(uint64(t.OID), 10)
}

// linkOf returns how a path below the data directory begins, where that may be a link.
func linkOf(p string) string {
	first, rest, _ := strings.Cut(p, "/")
	if first != "pg_tblspc" {
		return first
	}
	oid, _, _ := strings.Cut(rest, "/")
	return "pg_tblspc/" + oid
}

// makeInPlace makes the directories of tablespaces that are kept in the data directory.
func (d *destination) makeInPlace() error {
	for _, t := range d.manifest.Tablespaces {
		if err := d.mkdir(tablespacePath(t)); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	return nil
}

// inPlaceSettings lets PostgreSQL recover with tablespaces in place: from the releases on that know the setting, it takes
// their directories for a mistake otherwise (CheckTablespaceDirectory in xlogrecovery.c).
func (d *destination) inPlaceSettings() []setting {
	v := d.manifest.PGVersion
	if len(d.manifest.Tablespaces) == len(d.mark.Tablespaces) || v < 13_0008 || v/1_0000 == 14 && v < 14_0005 {
		return nil
	}
	return []setting{{"allow_in_place_tablespaces", "on"}}
}
