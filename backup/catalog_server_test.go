package backup_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// A backup knows every relation by name, and two of them what has grown between them.
func TestCatalog(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"autovacuum": "off", "max_connections": "37"}})
		space := pgtest.Dir(t)
		c.Exec(t, `create schema "Odd schema"`, `create table "Odd schema"."Käse" (i int primary key, pad text)`,
			`create tablespace aside location '`+space+`'`, `create table there (i int) tablespace aside`,
			`create temporary table gone (i int)`, `create table shrinks as select generate_series(1, 100000) i`, `create database other`,
			`create database closed`, `alter database closed allow_connections off`)
		c.ExecIn(t, "other", `create table only_here (i serial)`)
		r := newRepo(t, nil, nil)
		take := func() *backup.Manifest {
			s, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
			require.NoError(t, err)
			m, err := backup.Take(t.Context(), r, s, nil)
			require.NoError(t, err)
			m, err = backup.Load(t.Context(), r, m.ID)
			require.NoError(t, err)
			return m
		}
		sizes := func() map[string]int64 {
			all := map[string]int64{}
			rows, err := c.Connect(t).Query(t.Context(), `select n.nspname || '.' || relname,
				(select sum(coalesce(pg_relation_size(c.oid, fork), 0)) from unnest(array['main', 'fsm', 'vm', 'init']) fork)::bigint
				from pg_class c join pg_namespace n on n.oid = relnamespace where relkind in ('r', 'i', 't', 'S', 'm') and relpersistence <> 't'`)
			require.NoError(t, err)
			defer rows.Close()
			for rows.Next() {
				var name string
				var n int64
				require.NoError(t, rows.Scan(&name, &n))
				all[name] = n
			}
			require.NoError(t, rows.Err())
			return all
		}
		before := sizes()
		a := take()
		require.Equal(t, "37", a.Catalog.Settings["max_connections"])
		require.Contains(t, a.Catalog.Version, "PostgreSQL")
		seen := map[string]backup.Relation{}
		postgres := uint32(pgtest.Value[int64](t, c, `select oid::bigint from pg_database where datname = 'postgres'`))
		for _, rel := range a.Catalog.Relations {
			if rel.Database == postgres || rel.Database == 0 {
				seen[rel.Schema+"."+rel.Name] = rel
			}
		}
		require.Len(t, seen, len(before))
		for name := range before {
			require.Contains(t, seen, name)
		}
		require.Equal(t, seen["Odd schema.Käse"].OID, seen["Odd schema.Käse_pkey"].Of)
		names := a.Catalog.Names()
		others := 0
		for _, f := range a.FileList {
			rel, ok := names.Of(f.Path)
			if ok && a.Catalog.DatabaseName(rel.Database) == "other" && strings.HasPrefix(rel.Name, "only_here") {
				others++
			}
		}
		require.Equal(t, 2, others) // the table and its sequence

		c.Exec(t, `insert into "Odd schema"."Käse" select i, repeat('x', 100) from generate_series(1, 10000) i`, `truncate shrinks`,
			`alter table there rename to elsewhere`, `drop table elsewhere`, `create table created as select generate_series(1, 5000) i`, `checkpoint`)
		after := sizes()
		b := take()
		grown := map[string][2]int64{}
		for _, g := range backup.Diff(a, b) {
			require.NotZero(t, g.After-g.Before)
			if g.DatabaseName == "postgres" {
				grown[g.Schema+"."+g.Name] = [2]int64{g.Before, g.After}
			}
		}
		for _, name := range []string{"Odd schema.Käse", "Odd schema.Käse_pkey", "public.shrinks", "public.created"} {
			require.Equal(t, [2]int64{before[name], after[name]}, grown[name], name)
		}
		require.NotContains(t, grown, "public.there")
		require.Empty(t, backup.Diff(b, b))
	})
}

// A role that is permitted few connections is told all names nevertheless: databases are asked alone where two at a time
// are too many.
func TestCatalogByFewConnections(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	for i := range 6 {
		c.Exec(t, fmt.Sprintf(`create database db%d`, i))
	}
	// One for the backup, and one for names.
	log, text := logTo()
	dsn := newRole(t, c, `create role limited login connection limit 2`)
	s, err := backup.Directory(c.Data, dsn, &backup.DirectoryOptions{Logger: log})
	require.NoError(t, err)
	m, err := backup.Take(t.Context(), newRepo(t, nil, nil), s, nil)
	require.NoError(t, err)
	require.NotContains(t, text.String(), "without names")
	require.Greater(t, len(m.Catalog.Databases), 6)
	for _, d := range m.Catalog.Databases { // of which template0 permits no connections
		named := slices.ContainsFunc(m.Catalog.Relations, func(r backup.Relation) bool { return r.Database == d.OID })
		require.Equal(t, d.Name != "template0", named, d.Name)
	}
	require.Positive(t, strings.Count(c.Log(t), `too many connections for role "limited"`), "two at a time were too many")
}
