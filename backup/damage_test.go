package backup_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
)

// A page is told of also where no catalog knows its relation: it may have been made while the backup ran.
func TestDamageWithoutNames(t *testing.T) {
	page := backup.BadPage{Path: "base/5/16384_vm", Block: 7}
	m := &backup.Manifest{BadPageList: []backup.BadPage{page}}
	require.Equal(t, []backup.DamagedPage{{BadPage: page}}, slices.Collect(m.Damage()))
	m.Catalog = &backup.Catalog{Databases: []backup.Database{{OID: 5, Name: "postgres", Tablespace: 1663}}}
	require.Equal(t, []backup.DamagedPage{{BadPage: page}}, slices.Collect(m.Damage()))
	for range m.Damage() {
		break
	}
	m.Catalog.Relations = []backup.Relation{{Database: 5, OID: 4711, Schema: "public", Name: "a", Kind: "t", Tablespace: 1663, Filenode: 16384, Of: 4712}}
	require.Equal(t, []backup.DamagedPage{{BadPage: page, Database: "postgres", Schema: "public", Relation: "a", Kind: "t"}}, slices.Collect(m.Damage()))
	m.BadPageList = nil
	require.Empty(t, slices.Collect(m.Damage()))
}
