package restore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// DatabaseError means that [Options.Databases] names a database that the backup does not have.
type DatabaseError struct {
	Name   string
	Backup backup.ID
	Names  []string // of those there are, ascending; nil when the backup knows no names
}

func (e *DatabaseError) Error() string {
	if e.Names == nil {
		return fmt.Sprintf("restore: backup %s does not know the names of its databases, so it cannot restore %q only", e.Backup, e.Name)
	}
	return fmt.Sprintf("restore: backup %s has no database %q, only %s", e.Backup, e.Name, strings.Join(e.Names, ", "))
}

// firstNormalOID is the first OID of what initdb has not made (FirstNormalObjectId of PostgreSQL's transam.h).
const firstNormalOID = 16384

// isSystem tells whether a database is one that every cluster has.
func isSystem(d backup.Database) bool {
	return d.OID < firstNormalOID || slices.Contains([]string{"template0", "template1", "postgres"}, d.Name)
}

// leftOut returns the databases of a backup that are not among those to be restored, ascending by OID. One that the
// backup does not know, since it was created meanwhile, is not left out: the WAL has what it is made of.
func leftOut(m *backup.Manifest, only []string) ([]backup.Database, error) {
	if len(only) == 0 {
		return nil, nil
	}
	var all []backup.Database
	if m.Catalog != nil {
		all = m.Catalog.Databases
	}
	for _, name := range only {
		if slices.ContainsFunc(all, func(d backup.Database) bool { return d.Name == name }) {
			continue
		}
		e := &DatabaseError{Name: name, Backup: m.ID}
		for _, d := range all {
			e.Names = append(e.Names, d.Name)
		}
		slices.Sort(e.Names)
		return nil, e
	}
	return slices.DeleteFunc(slices.Clone(all), func(d backup.Database) bool {
		return isSystem(d) || slices.Contains(only, d.Name)
	}), nil
}

// leaveOut takes the content of databases out of a manifest. Their files remain, zero from end to end, so that recovery
// finds what it replays changes of. That goes for PG_VERSION and pg_filenode.map as well: by these a server tells that it
// cannot let anybody connect, where it would panic over a catalog that is zero.
func leaveOut(m *backup.Manifest, databases []backup.Database) {
	if len(databases) == 0 {
		return
	}
	out := make([]bool, len(m.FileList))
	for i := range m.FileList {
		f := &m.FileList[i]
		oid, ok := pgfile.DatabaseOf(f.Path)
		if !ok {
			continue
		}
		if _, found := slices.BinarySearchFunc(databases, oid, func(d backup.Database, oid uint32) int { return cmp.Compare(d.OID, oid) }); found {
			out[i], f.Data = true, 0
		}
	}
	m.PackList = slices.DeleteFunc(m.PackList, func(p backup.PackPieces) bool {
		unneeded := true
		for i, pieces := range p.Pieces {
			if p.Pieces[i] = without(pieces, out); p.Needs(i) {
				unneeded = false
			}
		}
		return unneeded
	})
}

// without takes pieces of files away; nothing remains where no other piece does.
func without(pieces []backup.Piece, out []bool) []backup.Piece {
	needed := false
	for i, p := range pieces {
		if p.File != backup.NoFile && out[p.File] {
			pieces[i].File = backup.NoFile
		}
		needed = needed || pieces[i].File != backup.NoFile
	}
	if !needed {
		return nil
	}
	return pieces
}

// databaseSettings lets PostgreSQL replay changes of pages that are zero.
func databaseSettings(leftOut []backup.Database) []setting {
	if len(leftOut) == 0 {
		return nil
	}
	return []setting{{"ignore_invalid_pages", "on"}}
}

// databaseWarnings say what that means.
func databaseWarnings(leftOut []backup.Database) []string {
	if len(leftOut) == 0 {
		return nil
	}
	names := make([]string, len(leftOut))
	for i, d := range leftOut {
		names[i] = fmt.Sprintf("%s (base/%d)", d.Name, d.OID)
	}
	return []string{
		"drop the databases that are not restored: " + strings.Join(names, ", "),
		"ignore_invalid_pages is on, so that recovery does not end at pages of these databases: make sure that the server's log has " +
			"no warning of a page of a relation of any other, then ALTER SYSTEM RESET ignore_invalid_pages",
	}
}
