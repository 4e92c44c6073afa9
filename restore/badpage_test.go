package restore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
)

// TestBadPages damages pages of a table on disk. One is changed during the backup, so that recovery makes it anew: that
// one is not bad, however it was read.
func TestBadPages(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]sourceOf{"directory": source, "replication": replicationSource} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := archiving()
			conf["autovacuum"] = "off"
			c := pgtest.New(t, &pgtest.Options{Conf: conf})
			c.Exec(t, `create table plain as select i, repeat('x', 100) as pad from generate_series(1, 10000) i`, `vacuum plain`, `checkpoint`)
			file := pgtest.Value[string](t, c, `select pg_relation_filepath('plain')`)
			f, err := os.OpenFile(filepath.Join(c.Data, file), os.O_RDWR, 0)
			require.NoError(t, err)
			defer f.Close()
			for _, page := range []int64{3, 7} {
				_, err = f.WriteAt([]byte("damaged"), page*8192+5000)
				require.NoError(t, err)
			}
			r := newRepo(t, false)
			m, err := backup.Take(t.Context(), r, backuptest.Meanwhile{Source: of(t, c), Reading: func() {
				c.Exec(t, `update plain set pad = repeat('y', 100) where ctid = '(3,1)'`) // which the server has in memory
			}}, nil)
			require.NoError(t, err)
			require.Equal(t, []backup.BadPage{{Path: file, Block: 7}}, m.BadPageList)
			require.Equal(t, 1, m.BadPages)
			b := recovered(t, r, restore.Immediate(), nil, nil, nil)
			require.True(t, pgtest.Value[bool](t, b, `select pad like 'x%' from plain where ctid = '(3,2)'`))
		})
	}
}
