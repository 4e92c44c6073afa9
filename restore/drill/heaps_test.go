package drill_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/stretchr/testify/require"
)

// TestFindsDamagedTables damages the header of a row of a table without an index, in a cluster without data checksums.
// Nothing but verify_heapam looks there, which came with PostgreSQL 14.
func TestFindsDamagedTables(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 14, pgtest.Newest()} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			s := newCluster(t, &pgtest.Options{Major: major, NoChecksums: true}, false)
			s.c.Exec(t, `create table plain as select 1 as i`, `create schema "My Tools"`, `create extension amcheck schema "My Tools"`)
			if major >= 14 {
				s.c.Exec(t, `drop extension amcheck`, `create extension amcheck schema "My Tools" version '1.2'`) // as of 13
			}
			path := pgtest.Value[string](t, s.c, `select pg_relation_filepath('plain')`)
			s.c.Stop(t)
			tooManyColumns(t, filepath.Join(s.c.Data, path))
			s.c.Start(t)
			s.backUp(t)
			for _, how := range []drill.Amcheck{drill.Indexes, drill.HeapAllIndexed} {
				o := s.options(t)
				o.Amcheck = how
				r, err := s.run(t, restore.Immediate(), o)
				if major < 14 || how == drill.Indexes {
					require.NoError(t, err)
					continue
				}
				require.True(t, is[*drill.CheckError](err), "%v", err)
				require.Contains(t, r.String(), "table plain: block 0, offset 1, attribute : number of attributes 1000 exceeds maximum expected for table 1")
			}
		})
	}
}

// tooManyColumns has the first row of a table say that it has 1000 columns (htup_details.h, t_infomask2).
func tooManyColumns(t *testing.T, path string) {
	t.Helper()
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	const firstPointer, infomask2 = 24, 18
	at := int64(binary.LittleEndian.Uint32(page[firstPointer:])&0x7fff) + infomask2
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(binary.LittleEndian.AppendUint16(nil, 1000), at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
