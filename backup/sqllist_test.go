package backup_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// list lists a session's files, in the order of their paths.
func list(t *testing.T, s backup.Session) []backup.Entry {
	t.Helper()
	var all []backup.Entry
	for e, err := range s.(backup.Lister).Files(t.Context()) {
		require.NoError(t, err)
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b backup.Entry) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// By SQL the same belongs in a backup as by walking the data directory.
func TestSQLListsWhatDirectoryLists(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		conf := map[string]string{"autovacuum": "off"}
		if major >= 15 {
			conf["allow_in_place_tablespaces"] = "on"
		}
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: conf, InitArgs: []string{"--waldir=" + filepath.Join(pgtest.Dir(t), "wal")}})
		space := pgtest.Dir(t)
		c.Exec(t, fmt.Sprintf(`create tablespace fast location '%s'`, space), `create database in_fast tablespace fast`,
			`create unlogged table u (i int primary key) tablespace fast`, `insert into u select generate_series(1, 1000)`)
		if major >= 15 {
			c.Exec(t, `create tablespace "in place" location ''`, `create table in_place tablespace "in place" as select 1`)
		}
		require.NoError(t, os.MkdirAll(filepath.Join(space, "PG_9_1", "5"), 0o755)) // another cluster's
		put(t, c, "postgresql.auto.conf.tmp", []byte("x"))
		put(t, c, "base/pgsql_tmp/pgsql_tmp1.0", []byte("x"))
		put(t, c, "pg_replslot/x/state", []byte("x"))
		put(t, c, "base/5/pg_internal.init.1", []byte("x"))
		put(t, c, "base/5/t3_16384", []byte("x"))
		put(t, c, "base/5/t3_16384_fsm", []byte("x"))
		put(t, c, "pgcairn.restore", []byte("x"))
		for i, name := range []string{"a b", `a'b"c`, "{a,b}", `"`, "NULL", "$1", "%s", "ä\u2028", "\n", "-", strings.Repeat("n", 200)} {
			put(t, c, filepath.Join("odd", name, fmt.Sprint(i), name), noise(i))
		}
		for i := range 100 {
			put(t, c, fmt.Sprintf("many/%d", i), noise(i))
		}
		require.NoError(t, os.Mkdir(filepath.Join(c.Data, "empty"), 0o700))
		require.NoError(t, os.Symlink("nowhere", filepath.Join(c.Data, "dangling")))
		l, err := net.Listen("unix", filepath.Join(c.Data, ".s.PGSQL.1"))
		require.NoError(t, err)
		defer l.Close()
		pgtest.Own(t, c.Data)
		c.Exec(t, `checkpoint`)

		d, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
		require.NoError(t, err)
		whole := begin(t, sqlSource(t, newRole(t, c, `create role backup login`), nil))
		// Every directory and every third entry begin a query of their own.
		parts := begin(t, backup.ListBounded(sqlSource(t, c.DSN("postgres"), nil), 2, 3))
		want := list(t, begin(t, d))
		require.Greater(t, len(want), 1000)
		require.Equal(t, want, list(t, whole))
		require.Equal(t, want, list(t, parts))
		for _, e := range want {
			if strings.HasPrefix(e.Path, "odd/") && !e.Dir {
				got := make([]byte, 20)
				n, _ := open(t, whole, e.Path).ReadAt(got, 0)
				require.Equal(t, noise(int(e.Size)), got[:n], e.Path)
			}
		}
	})
}

// Names of files are bytes, whatever the encoding of the database that is connected to.
func TestSQLListsByAnyEncoding(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	put(t, c, "ä/ö", noise(10))
	for _, encoding := range []string{"SQL_ASCII", "LATIN1", "UTF8"} {
		c.Exec(t, fmt.Sprintf(`create database db_%s template template0 encoding '%s' locale 'C'`, encoding, encoding))
		session := begin(t, sqlSource(t, c.DSN("db_"+strings.ToLower(encoding)), nil))
		require.Contains(t, list(t, session), backup.Entry{Path: "ä/ö", Size: 10})
		open(t, session, "ä/ö")
	}
}

// A link that leads in a circle ends in an error rather than never.
func TestSQLListsNoCircle(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	require.NoError(t, os.Mkdir(filepath.Join(c.Data, "x"), 0o755))
	require.NoError(t, os.Symlink("../x", filepath.Join(c.Data, "x", "again")))
	pgtest.Own(t, filepath.Join(c.Data, "x"))
	var err error
	for _, e := range begin(t, sqlSource(t, c.DSN("postgres"), nil)).(backup.Lister).Files(t.Context()) {
		if err = e; err != nil {
			break
		}
	}
	require.ErrorContains(t, err, "does a link lead in a circle?")
}

// Who has had enough of a list gets no more.
func TestSQLListStops(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	n := 0
	for range begin(t, sqlSource(t, c.DSN("postgres"), nil)).(backup.Lister).Files(t.Context()) {
		if n++; n == 10 {
			break
		}
	}
	require.Equal(t, 10, n)
}
