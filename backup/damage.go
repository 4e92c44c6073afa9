package backup

import "iter"

// DamagedPage is a bad page, and what it is of as the catalog of its backup has it. What that does not know is empty: an
// index can be made anew, a table cannot.
type DamagedPage struct {
	BadPage
	Database string `json:"database,omitempty"` // empty, too, for what all databases share
	Schema   string `json:"schema,omitempty"`
	Relation string `json:"relation,omitempty"`
	Kind     string `json:"kind,omitempty"`  // as pg_class.relkind
	Table    string `json:"table,omitempty"` // with its schema, that an index or TOAST belongs to
}

// Damage yields the bad pages by name, in the order of BadPageList.
func (m *Manifest) Damage() iter.Seq[DamagedPage] {
	return func(yield func(DamagedPage) bool) {
		if len(m.BadPageList) == 0 {
			return
		}
		names := m.Catalog.Names()
		for _, b := range m.BadPageList {
			p := DamagedPage{BadPage: b}
			if r, ok := names.Of(b.Path); ok {
				p.Database, p.Schema, p.Relation, p.Kind = m.Catalog.DatabaseName(r.Database), r.Schema, r.Name, r.Kind
				if t, ok := m.Catalog.relation(r.Database, r.Of); ok {
					p.Table = t.Schema + "." + t.Name
				}
			}
			if !yield(p) {
				return
			}
		}
	}
}
