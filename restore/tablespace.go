package restore

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/pgcairn/pgcairn/backup"
)

// TablespaceError means that a restore was not told where a tablespace should go, was told of a place where it cannot
// go, or was told of a tablespace that is not in the backup.
type TablespaceError struct {
	Name     string
	OID      uint32
	Location string // where it was when it was backed up; empty when it is not in the backup
	Reason   string // why it cannot go where it was to; empty when it was to go nowhere
}

func (e *TablespaceError) Error() string {
	if e.Location == "" {
		return fmt.Sprintf("restore: the backup has no tablespace %q", e.Name)
	}
	if e.Reason != "" {
		return fmt.Sprintf("restore: tablespace %q (OID %d): %s", e.Name, e.OID, e.Reason)
	}
	return fmt.Sprintf("restore: tablespace %q (OID %d), once at %s, needs a directory to be restored to", e.Name, e.OID, e.Location)
}

// mapTablespaces returns the absolute directory of each tablespace that is not kept in place, by OID. dir is where the data
// directory goes, and wal where pg_wal goes, unless that is empty.
func mapTablespaces(dir, wal string, m *backup.Manifest, o *Options) (map[string]string, error) {
	mapping := o.Tablespaces
	out := map[string]string{}
	used := map[string]bool{}
	taken := []string{dir}
	if wal != "" {
		taken = append(taken, wal)
	}
	for _, t := range m.Tablespaces {
		oid := strconv.FormatUint(uint64(t.OID), 10)
		for _, name := range []string{t.Name, oid} {
			location, ok := mapping[name]
			if !ok {
				continue
			}
			abs, err := filepath.Abs(location)
			if err != nil {
				return nil, fmt.Errorf("restore: %w", err)
			}
			for _, other := range taken {
				if !beside(abs, other) {
					return nil, &TablespaceError{Name: t.Name, OID: t.OID, Location: t.Location, Reason: fmt.Sprintf(
						"%s and %s are not beside each other", abs, other)}
				}
			}
			out[oid], used[name], taken = abs, true, append(taken, abs)
			break
		}
		if out[oid] == "" && !o.TablespacesInPlace {
			return nil, &TablespaceError{Name: t.Name, OID: t.OID, Location: t.Location}
		}
	}
	for name := range mapping {
		if !used[name] {
			return nil, &TablespaceError{Name: name}
		}
	}
	return out, nil
}

// beside tells whether neither of two directories is the other or lies in it, by their absolute paths and by those that
// links make of them.
func beside(a, b string) bool {
	realA, realB := resolve(a), resolve(b)
	return !within(a, b) && !within(b, a) && !within(realA, realB) && !within(realB, realA)
}

// resolve follows the links in a clean, absolute path, as far as there is anything.
func resolve(p string) string {
	for there, rest := p, ""; ; there, rest = filepath.Dir(there), filepath.Join(filepath.Base(there), rest) {
		if actual, err := filepath.EvalSymlinks(there); err == nil {
			return filepath.Join(actual, rest)
		}
		if there == filepath.Dir(there) {
			return p
		}
	}
}

// within tells whether a directory is another or lies in it, by their clean, absolute paths.
func within(dir, outer string) bool {
	rel, err := filepath.Rel(outer, dir)
	return err == nil && filepath.IsLocal(rel)
}
