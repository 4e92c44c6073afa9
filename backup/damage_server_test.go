package backup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// Pages that are damaged on disk, in a table, its TOAST, its index and a catalog that all databases share, are told by
// relation and block, from every source, and in the backups that build on one. The server is the judge of which they are.
func TestDamage(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"autovacuum": "off"}})
		c.Exec(t, `create schema "Odd schema"`,
			`create table "Odd schema"."Käse" (i int primary key, pad text, long text)`, `alter table "Odd schema"."Käse" alter long set storage external`,
			`insert into "Odd schema"."Käse" select i, repeat('x', 100), repeat('y', 3000) from generate_series(1, 2000) i`)
		path := func(relation string) string {
			return pgtest.Value[string](t, c, `select pg_relation_filepath($1::text::regclass)`, relation)
		}
		toast := pgtest.Value[string](t, c, `select reltoastrelid::regclass::text from pg_class where relname = 'Käse'`)
		table, index, long, shared := path(`"Odd schema"."Käse"`), path(`"Odd schema"."Käse_pkey"`), path(toast), path("pg_shdescription")
		c.Stop(t)
		damaged := []backup.DamagedPage{
			{BadPage: backup.BadPage{Path: table, Block: 3}, Database: "postgres", Schema: "Odd schema", Relation: "Käse", Kind: "r"},
			{BadPage: backup.BadPage{Path: table, Block: 17}, Database: "postgres", Schema: "Odd schema", Relation: "Käse", Kind: "r"},
			{BadPage: backup.BadPage{Path: index, Block: 2}, Database: "postgres", Schema: "Odd schema", Relation: "Käse_pkey", Kind: "i", Table: "Odd schema.Käse"},
			{BadPage: backup.BadPage{Path: long, Block: 5}, Database: "postgres", Schema: "pg_toast", Relation: toast[len("pg_toast."):], Kind: "t", Table: "Odd schema.Käse"},
			{BadPage: backup.BadPage{Path: shared, Block: 0}, Schema: "pg_catalog", Relation: "pg_shdescription", Kind: "r"},
		}
		slices.SortFunc(damaged, func(a, b backup.DamagedPage) int { return backup.CompareBadPages(a.BadPage, b.BadPage) })
		for _, d := range damaged {
			damage(t, filepath.Join(c.Data, d.Path), int64(d.Block)*8192+5000)
		}
		c.Start(t)

		r := newRepo(t, nil, nil)
		take := func(kind backup.Type, s backup.Source, err error) *backup.Manifest {
			require.NoError(t, err)
			m, err := backup.Take(t.Context(), r, s, &backup.Options{Type: kind})
			require.NoError(t, err)
			require.Equal(t, kind, m.Type)
			require.Equal(t, len(damaged), m.BadPages)
			m, err = backup.Load(t.Context(), r, m.ID)
			require.NoError(t, err)
			return m
		}
		sql, err := backup.SQL(c.DSN("postgres"), nil)
		m := take(backup.Full, sql, err)
		require.Equal(t, damaged, slices.Collect(m.Damage()))
		files, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
		require.Equal(t, damaged, slices.Collect(take(backup.Full, files, err).Damage()))

		// The names are those that hold when a backup is taken.
		c.Exec(t, `alter table "Odd schema"."Käse" rename to käse`)
		for i := range damaged {
			if damaged[i].Relation == "Käse" {
				damaged[i].Relation = "käse"
			}
			if damaged[i].Table != "" {
				damaged[i].Table = "Odd schema.käse"
			}
		}
		require.Equal(t, damaged, slices.Collect(take(backup.Incremental, files, nil).Damage()))

		c.Exec(t, `create extension pageinspect`)
		var found []backup.BadPage
		for _, relation := range []string{`"Odd schema".käse`, `"Odd schema"."Käse_pkey"`, toast, "pg_shdescription"} {
			found = append(found, unreadable(t, c, relation)...)
		}
		slices.SortFunc(found, backup.CompareBadPages)
		for i, d := range damaged {
			require.Equal(t, d.BadPage, found[i])
		}
		require.Len(t, found, len(damaged))
	})
}

// unreadable returns the pages of a relation's main fork that the server refuses to read.
func unreadable(t *testing.T, c *pgtest.Cluster, relation string) (bad []backup.BadPage) {
	t.Helper()
	pages := pgtest.Value[int64](t, c, `select pg_relation_size($1::text::regclass) / 8192`, relation)
	require.NotZero(t, pages)
	conn := c.Connect(t)
	for n := range pages {
		var page []byte
		err := conn.QueryRow(t.Context(), `select get_raw_page($1, $2::int)`, relation, n).Scan(&page)
		if err == nil {
			continue
		}
		var failed *pgconn.PgError
		require.ErrorAs(t, err, &failed)
		var b backup.BadPage
		_, err = fmt.Sscanf(strings.NewReplacer(`"`, " ").Replace(failed.Message), "invalid page in block %d of relation %s", &b.Block, &b.Path)
		require.NoError(t, err, failed.Message)
		bad = append(bad, b)
	}
	return bad
}

// damage inverts a byte of a file.
func damage(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
}
