package backup

import (
	"cmp"
	"context"
	"slices"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// Catalog is what a server knows of its cluster by name. It is asked for once a backup has begun; what is created later
// is missing.
type Catalog struct {
	Version   string            `json:"version"`  // as version() tells it: which build has written the cluster
	Settings  map[string]string `json:"settings"` // that a standby, or recovery, must not have lower
	Databases []Database        `json:"-"`        // ascending by OID
	Relations []Relation        `json:"-"`        // ascending by database and OID
}

// Database is a database of a cluster.
type Database struct {
	OID        uint32 `json:"oid"`
	Name       string `json:"name"`
	Tablespace uint32 `json:"tablespace"` // OID of its default one
}

// Relation is a relation that has files: a table, index, sequence, materialized view, or what a table has as TOAST. Those
// that all databases share are in database 0.
type Relation struct {
	Database   uint32 `json:"database"` // OID
	OID        uint32 `json:"oid"`
	Schema     string `json:"schema"`
	Name       string `json:"name"`
	Kind       string `json:"kind"`         // as pg_class.relkind
	Tablespace uint32 `json:"tablespace"`   // OID
	Filenode   uint32 `json:"filenode"`     // that its files are named by
	Of         uint32 `json:"of,omitempty"` // OID of the table that an index or TOAST belongs to
}

// Cataloger is a Session of a server that can be asked for names.
type Cataloger interface {
	// Catalog asks for names, in every database that can be connected to. Those that cannot are left out.
	Catalog(ctx context.Context) (*Catalog, error)
}

func compareRelations(a, b Relation) int {
	return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.OID, b.OID))
}

// DatabaseName returns the name of a database, or empty.
func (c *Catalog) DatabaseName(oid uint32) string {
	if c == nil {
		return ""
	}
	i, found := slices.BinarySearchFunc(c.Databases, oid, func(d Database, oid uint32) int { return cmp.Compare(d.OID, oid) })
	if !found {
		return ""
	}
	return c.Databases[i].Name
}

// relation finds a relation by its OID.
func (c *Catalog) relation(database, oid uint32) (Relation, bool) {
	i, found := slices.BinarySearchFunc(c.Relations, Relation{Database: database, OID: oid}, compareRelations)
	if !found {
		return Relation{}, false
	}
	return c.Relations[i], true
}

// TableOf returns the OID of the table that a relation of the catalog belongs to: of an index, TOAST or an index of TOAST.
// Of any other it is its own.
func (c *Catalog) TableOf(r Relation) uint32 {
	for range 2 {
		if r.Of == 0 {
			break
		}
		of, found := c.relation(r.Database, r.Of)
		if !found {
			return r.Of
		}
		r = of
	}
	return r.OID
}

// Names finds relations by what the WAL calls them.
type Names map[wal.Relation]Relation

// Names returns an index of the relations by tablespace, database and filenode.
func (c *Catalog) Names() Names {
	if c == nil {
		return nil
	}
	names := make(Names, len(c.Relations))
	for _, r := range c.Relations {
		names[wal.Relation{Tablespace: r.Tablespace, Database: r.Database, Number: r.Filenode}] = r
	}
	return names
}

// Of returns the relation that a file is of, by its path.
func (n Names) Of(path string) (Relation, bool) {
	f, ok := pgfile.ParseRelation(path)
	if !ok {
		return Relation{}, false
	}
	r, ok := n[wal.Relation{Tablespace: f.Tablespace, Database: f.Database, Number: f.Number}]
	return r, ok
}

// Growth is how the size of a relation differs between two backups.
type Growth struct {
	Relation
	DatabaseName  string
	Before, After int64 // in bytes, of all forks; 0 where it is not there
}

// Diff explains how a cluster grew from one backup to another: the relations whose size is not the same, those that grew
// most first. What is in no catalog, such as a relation that was created while the backup ran, is summed up as a
// Relation without a name.
func Diff(a, b *Manifest) []Growth {
	type key struct{ database, oid uint32 }
	found := map[key]*Growth{}
	count := func(m *Manifest, size func(g *Growth) *int64) {
		names := m.Catalog.Names()
		for _, f := range m.FileList {
			r, _ := names.Of(f.Path)
			k := key{r.Database, r.OID}
			g := found[k]
			if g == nil {
				g = &Growth{}
				found[k] = g
			}
			g.Relation, g.DatabaseName = r, m.Catalog.DatabaseName(r.Database) // the later name
			*size(g) += f.Size
		}
	}
	count(a, func(g *Growth) *int64 { return &g.Before })
	count(b, func(g *Growth) *int64 { return &g.After })
	var all []Growth
	for _, g := range found {
		if g.Before != g.After {
			all = append(all, *g)
		}
	}
	slices.SortFunc(all, func(x, y Growth) int {
		return cmp.Or(cmp.Compare(y.After-y.Before, x.After-x.Before), compareRelations(x.Relation, y.Relation))
	})
	return all
}
