package restore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// DatabaseError means that [Options.Databases] names a database that the backup does not have, or that it has to tell the
// tables of one whose relations it does not know by name.
type DatabaseError struct {
	Name   string
	Backup backup.ID
	Names  []string // of those there are, ascending; nil when the backup does not know the names that it takes
}

func (e *DatabaseError) Error() string {
	if e.Names == nil {
		return fmt.Sprintf("restore: backup %s does not know the names of its databases, or of the tables in them, so it cannot restore %q only", e.Backup, e.Name)
	}
	return fmt.Sprintf("restore: backup %s has no database %q, only %s", e.Backup, e.Name, strings.Join(e.Names, ", "))
}

// firstNormalOID is the first OID of what initdb has not made (FirstNormalObjectId of PostgreSQL's transam.h).
const firstNormalOID = 16384

// largeObjects is the OID of the catalog that holds the content of large objects (pg_largeobject.h), which tables do not.
const largeObjects = 2613

// isSystem tells whether a database is one that every cluster has.
func isSystem(d backup.Database) bool {
	return d.OID < firstNormalOID || slices.Contains([]string{"template0", "template1", "postgres"}, d.Name)
}

// selection is what of a backup is restored, where that is not all.
type selection struct {
	databases []backup.Database     // that are left out, ascending by OID
	all       []backup.Database     // that the backup knows, ascending by OID
	relations map[wal.Relation]bool // that are left out of a database which is not
	narrowed  string                // the name of that database; empty when there is none
}

// selected decides what is restored. What the backup does not know by name, since it was created meanwhile, is not left
// out. nil is that everything is restored.
func selected(m *backup.Manifest, o *Options) (*selection, error) {
	only := o.Databases
	if o.Tables != nil && len(only) != 1 {
		return nil, fmt.Errorf("restore: Tables are of one database, and Databases names %d", len(only))
	}
	if len(only) == 0 {
		return nil, nil
	}
	s := &selection{}
	if m.Catalog != nil {
		s.all = m.Catalog.Databases
	}
	for _, name := range only {
		if slices.ContainsFunc(s.all, func(d backup.Database) bool { return d.Name == name }) {
			continue
		}
		e := &DatabaseError{Name: name, Backup: m.ID}
		for _, d := range s.all {
			e.Names = append(e.Names, d.Name)
		}
		slices.Sort(e.Names)
		return nil, e
	}
	s.databases = slices.DeleteFunc(slices.Clone(s.all), func(d backup.Database) bool {
		return o.Tables == nil && isSystem(d) || slices.Contains(only, d.Name)
	})
	if o.Tables == nil {
		if len(s.databases) == 0 {
			return nil, nil
		}
		return s, nil
	}
	return s, s.narrow(m, only[0], o.Tables)
}

// narrow leaves all relations of a database out but its system catalogs, its sequences, and some tables with what belongs
// to them.
func (s *selection) narrow(m *backup.Manifest, name string, tables []uint32) error {
	s.narrowed, s.relations = name, map[wal.Relation]bool{}
	database := s.all[slices.IndexFunc(s.all, func(d backup.Database) bool { return d.Name == name })].OID
	known := false
	for _, r := range m.Catalog.Relations {
		if r.Database != database {
			continue
		}
		known = true
		table := m.Catalog.TableOf(r)
		system := table < firstNormalOID && table != largeObjects
		if !system && r.Kind != "S" && !slices.Contains(tables, table) {
			s.relations[wal.Relation{Tablespace: r.Tablespace, Database: r.Database, Number: r.Filenode}] = true
		}
	}
	if !known {
		return &DatabaseError{Name: name, Backup: m.ID}
	}
	return nil
}

// has tells whether a file of the backup is restored.
func (s *selection) has(path string) bool {
	oid, ok := pgfile.DatabaseOf(path)
	if !ok {
		return true
	}
	if contains(s.databases, oid) {
		return false
	}
	f, ok := pgfile.ParseRelation(path)
	return !ok || !s.relations[wal.Relation{Tablespace: f.Tablespace, Database: f.Database, Number: f.Number}]
}

// contains finds a database in those that ascend by OID.
func contains(all []backup.Database, oid uint32) bool {
	_, found := slices.BinarySearchFunc(all, oid, func(d backup.Database, oid uint32) int { return cmp.Compare(d.OID, oid) })
	return found
}

// Restored tells whether the file of a relation, by its slash-separated path below the data directory, is of what was
// restored: of the databases and tables that [Options] selects, of what all databases share, or created since the backup in
// one that was selected. Of others pages are zero, or were made from pages that are.
func (r *Result) Restored(path string) bool {
	if r.selection == nil {
		return true
	}
	oid, ok := pgfile.DatabaseOf(path)
	return r.selection.has(path) && (!ok || contains(r.selection.all, oid))
}

// leaveOut takes the content of what is not selected out of a manifest. Its files remain, zero from end to end, so that
// recovery finds what it replays changes of. Of databases that goes for PG_VERSION and pg_filenode.map as well: by these a
// server tells that it cannot let anybody connect, where it would panic over a catalog that is zero.
func (s *selection) leaveOut(m *backup.Manifest) {
	if s == nil {
		return
	}
	out := make([]bool, len(m.FileList))
	for i := range m.FileList {
		if f := &m.FileList[i]; !s.has(f.Path) {
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

// settings lets PostgreSQL replay changes of pages that are zero.
func (s *selection) settings() []setting {
	if s == nil {
		return nil
	}
	return []setting{{"ignore_invalid_pages", "on"}}
}

// warnings say what that means.
func (s *selection) warnings() []string {
	if s == nil {
		return nil
	}
	if s.narrowed != "" {
		return []string{fmt.Sprintf("only some tables of database %s are restored: take them out, and the copy for nothing else", s.narrowed)}
	}
	names := make([]string, len(s.databases))
	for i, d := range s.databases {
		names[i] = fmt.Sprintf("%s (base/%d)", d.Name, d.OID)
	}
	return []string{
		"drop the databases that are not restored: " + strings.Join(names, ", "),
		"ignore_invalid_pages is on, so that recovery does not end at pages of these databases: make sure that the server's log has " +
			"no warning of a page of a relation of any other, then ALTER SYSTEM RESET ignore_invalid_pages",
	}
}
