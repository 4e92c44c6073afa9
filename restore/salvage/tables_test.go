package salvage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/pgcairn/pgcairn/restore/salvage"
	"github.com/stretchr/testify/require"
)

func table(name string) salvage.Table { return salvage.Table{Schema: "public", Name: name} }

// TestTables salvages tables to which something else than a drop has happened since an encrypted backup, and tells of what
// there is not, on the oldest and the newest version.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, major := range []int{pgtest.Majors()[0], pgtest.Newest()} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			salvageTables(t, major)
		})
	}
}

func salvageTables(t *testing.T, major int) {
	s := newSite(t, &pgtest.Options{Major: major, Conf: map[string]string{"max_prepared_transactions": "5"}}, true)
	s.c.Exec(t, `create tablespace aside location '`+pgtest.Dir(t)+`'`)
	const rows = ` as select i, repeat(md5(i::text), 200) as text from generate_series(1, 500) i`
	s.exec(t, `create table truncated`+rows, `create table rewritten`+rows, `create table before`+rows, `create table swapped`+rows,
		`create table elsewhere tablespace aside`+rows, `create index on elsewhere (i) tablespace aside`, `create table moved`+rows,
		`create unlogged table passing`+rows, `create table other`+rows, `create materialized view seen as select * from other`,
		`create table whole (i int) partition by range (i)`, `create table part1 partition of whole for values from (0) to (1000)`,
		`insert into whole select i from other`, `create schema "a.b"`, `create table "a.b"."Odd ""name"""`+rows)
	s.backUp(t)
	s.exec(t, `truncate truncated`, `insert into truncated values (1, 'new')`, `update rewritten set i = i + 1 where i < 9`, `vacuum full rewritten`,
		`alter table before rename to renamed`, `update renamed set i = 0 where i = 7`, `create table created`+rows,
		`create index on created (i)`, `alter table swapped rename to old`, `create table swapped as select 1`,
		`alter table moved set tablespace aside`, `delete from elsewhere where i = 3`)
	tables := []salvage.Table{
		table("truncated"), table("rewritten"), table("renamed"), table("created"), table("swapped"), table("old"), table("elsewhere"),
		table("moved"), table("seen"), table("part1"),
		{Schema: "a.b", Name: `Odd "name"`},
	}
	want := s.sumsNow(t, tables...)
	s.exec(t, `begin; truncate rewritten; insert into created values (0, 'not committed'); prepare transaction 'open''s'`)
	s.c.Exec(t, `alter database shop set default_transaction_read_only = on`)
	s.archive(t)

	o := s.options(t)
	o.Func = func(ctx context.Context, conn *pgx.Conn) error {
		for _, sql := range []string{`select * from other`, `select count(*) from whole, other`, `select text from other where i = 7`} {
			_, err := conn.Exec(ctx, sql)
			require.ErrorContains(t, err, "could not open file", "it is not taken for empty")
		}
		_, err := conn.Exec(ctx, `select * from whole`)
		return err // its partition is there
	}
	got, r := s.rows(t, restore.Latest(), o, tables...)
	require.Equal(t, want, got)
	require.EqualValues(t, 1, r.Tables[0].Rows)

	if major != pgtest.Newest() {
		return
	}
	passing, r := s.rows(t, restore.Latest(), s.options(t), table("passing"))
	require.Equal(t, map[string]string{`"public"."passing"`: "0 rows, 0"}, passing)
	require.True(t, r.Tables[0].Unlogged)
	require.Contains(t, r.String(), "it is unlogged")

	for _, f := range []struct {
		name, reason string
		near         []salvage.Table
	}{
		{"trunkated", "neither in the backup nor at the target", []salvage.Table{table("truncated")}},
		{"before", "it is in the backup, and not there at the target", nil},
		{"whole", "it is partitioned", []salvage.Table{table("part1")}},
	} {
		o := s.options(t)
		o.Func = func(context.Context, *pgx.Conn) error { return errors.New("not to be called") }
		r, err := salvage.Run(t.Context(), s.r, restore.Latest(), "shop", []salvage.Table{table(f.name)}, o)
		var wrong *salvage.TableError
		require.ErrorAs(t, err, &wrong, f.name)
		require.Contains(t, wrong.Reason, f.reason)
		require.Equal(t, f.near, wrong.Near)
		require.False(t, r.OK)
		require.Contains(t, r.String(), "salvage: FAILED, phase tables: ")
		requireNothing(t, o.Dir)
	}
	o = s.options(t)
	o.Func = func(context.Context, *pgx.Conn) error { return errors.New("not to be called") }
	_, err := salvage.Run(t.Context(), s.r, restore.Latest(), "shopp", []salvage.Table{table("created")}, o)
	var unknown *restore.DatabaseError
	require.ErrorAs(t, err, &unknown)
	require.Contains(t, unknown.Names, "shop")
	requireNothing(t, o.Dir)
	for _, tables := range [][]salvage.Table{nil, {table("created"), table("created")}} {
		_, err := salvage.Run(t.Context(), s.r, restore.Latest(), "shop", tables, o)
		require.ErrorContains(t, err, "named")
	}
}

// TestDump restores a dump in another cluster. Only the distribution's version comes with pg_dump.
func TestDump(t *testing.T) {
	t.Parallel()
	s := newSite(t, &pgtest.Options{Major: pgtest.DistroMajor(t), Distro: true}, false)
	fill(t, s, 2, 100)
	s.exec(t, `create table "Two" (id int references orders (id))`, `insert into "Two" select 1`)
	s.backUp(t)
	s.exec(t, `insert into orders (note) values ('later')`)
	tables := []salvage.Table{table("orders"), table("Two")}
	want := s.sumsNow(t, tables...)
	s.exec(t, `drop table orders, "Two"`)
	to := s.beforeDrop(t, s.archive(t))

	file, err := os.Create(filepath.Join(t.TempDir(), "dump"))
	require.NoError(t, err)
	o := s.options(t)
	o.Dump = file
	_, err = salvage.Run(t.Context(), s.r, to, "shop", tables, o)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	requireNothing(t, o.Dir)

	other := &site{c: pgtest.New(t, &pgtest.Options{Distro: true})}
	other.c.Exec(t, `create database shop`)
	out, err := exec.CommandContext(t.Context(), pgtest.DistroBin(t, "pg_restore"), "--exit-on-error", "--dbname", other.c.DSN("shop"), file.Name()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, want, other.sumsNow(t, tables...))
	other.exec(t, `insert into orders (note) values ('the sequence goes on')`)
	require.Greater(t, pgtest.ValueIn[int64](t, other.c, "shop", `select max(id) from orders`), int64(101))

	// A writer that fails, and programs that are not there.
	o.Dump = failing{}
	_, err = salvage.Run(t.Context(), s.r, to, "shop", tables, o)
	require.ErrorIs(t, err, errFull)
	requireNothing(t, o.Dir)
	o.Dump, o.BinDir = io.Discard, t.TempDir()
	_, err = salvage.Run(t.Context(), s.r, to, "shop", tables, o)
	var missing *drill.BinaryError
	require.ErrorAs(t, err, &missing)
	require.Contains(t, err.Error(), "salvage: plan: ")
}

var errFull = errors.New("no space left")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

// TestDamage has a page of a table be zero in the backup: recovery, which has to pass over pages of tables that are left
// out, passes over this one as well, and salvage does not.
func TestDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t, &pgtest.Options{NoChecksums: true, Conf: map[string]string{"full_page_writes": "off"}}, false)
	s.exec(t, `create table t as select i from generate_series(1, 1000) i`, `create table fine as select 1 as i`, `checkpoint`)
	path := filepath.Join(s.c.Data, pgtest.ValueIn[string](t, s.c, "shop", `select pg_relation_filepath('t')`))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(make([]byte, 8192))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	s.backUp(t)
	s.exec(t, `delete from t where i < 3`, `update fine set i = 2`) // which the server has in memory
	s.archive(t)

	o := s.options(t)
	o.Func = func(context.Context, *pgx.Conn) error { return errors.New("not to be called") }
	_, err = salvage.Run(t.Context(), s.r, restore.Latest(), "shop", []salvage.Table{table("t")}, o)
	var damage *drill.DamageError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, []string{strings.TrimPrefix(path, s.c.Data+"/")}, damage.Paths)
	requireNothing(t, o.Dir)

	// That of others does not matter.
	want := s.sumsNow(t, table("fine"))
	got, _ := s.rows(t, restore.Latest(), s.options(t), table("fine"))
	require.Equal(t, want, got)
}
