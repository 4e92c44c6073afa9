package salvage

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
)

// missedError means that tables have to be fetched which are not known to the backup by their name at the target.
type missedError struct {
	tables []uint32 // OIDs that they have in the backup
}

func (e *missedError) Error() string { return fmt.Sprintf("relations %v were not fetched", e.tables) }

// takeOut finds the tables in the recovered copy, makes sure that they are all there, and hands them out.
func (s *salvage) takeOut(ctx context.Context, conn *pgx.Conn) error {
	s.report.Tables = []TableReport{}
	if err := rollBackPrepared(ctx, conn); err != nil {
		return err
	}
	var wanted []uint32
	for _, t := range s.tables {
		found, err := s.find(ctx, conn, t)
		if err != nil {
			return err
		}
		s.report.Tables = append(s.report.Tables, *found)
		wanted = append(wanted, found.OID)
	}
	if err := s.fence(ctx, conn, wanted); err != nil {
		return err
	}
	for i := range s.report.Tables {
		if err := s.report.Tables[i].read(ctx, conn); err != nil {
			return err
		}
	}
	if s.options.Func != nil {
		if err := s.options.Func(ctx, conn); err != nil {
			return err
		}
	}
	if s.options.Dump != nil {
		return dump(ctx, conn, s.tables, s.options.Dump)
	}
	return nil
}

// rollBackPrepared ends transactions that were prepared and not committed at the target: they hold locks, maybe on the
// tables, and what they have done is not to be seen.
func rollBackPrepared(ctx context.Context, conn *pgx.Conn) error {
	rows, _ := conn.Query(ctx, `select gid from pg_prepared_xacts where database = current_database()`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string]) // and Query's error
	if err != nil {
		return err
	}
	for _, gid := range all {
		var sql string
		if err := conn.QueryRow(ctx, `select 'rollback prepared ' || quote_literal($1)`, gid).Scan(&sql); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// find finds a table by its name.
func (s *salvage) find(ctx context.Context, conn *pgx.Conn, t Table) (*TableReport, error) {
	const query = `select c.oid, c.relkind::text, c.relpersistence = 'u', pg_total_relation_size(c.oid)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`
	type row struct {
		OID      uint32
		Kind     string
		Unlogged bool
		Bytes    int64
	}
	rows, _ := conn.Query(ctx, query, t.Schema, t.Name)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return nil, err
	}
	e := &TableError{Database: s.database, Table: t}
	if len(found) == 0 {
		return nil, s.missing(ctx, conn, e)
	}
	switch f := found[0]; f.Kind {
	case "r", "m":
		return &TableReport{Table: t, OID: f.OID, Unlogged: f.Unlogged, Bytes: f.Bytes}, nil
	case "p":
		e.Reason = "it is partitioned, and has no rows itself: name its partitions"
		const partitions = `select n.nspname, c.relname from pg_partition_tree($1::oid::regclass) t join pg_class c on c.oid = t.relid
			join pg_namespace n on n.oid = c.relnamespace where t.isleaf order by 1, 2`
		if e.Near, err = listTables(ctx, conn, partitions, f.OID); err != nil {
			return nil, err
		}
		return nil, e
	default:
		e.Reason = "it is no table that has rows itself (its pg_class.relkind is " + f.Kind + ")"
		return nil, e
	}
}

// missing tells what there is instead of a table.
func (s *salvage) missing(ctx context.Context, conn *pgx.Conn, e *TableError) error {
	const query = `select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'm', 'p') and n.nspname not in ('pg_catalog', 'information_schema') order by 1, 2`
	all, err := listTables(ctx, conn, query)
	if err != nil {
		return err
	}
	e.Near = near(e.Table, all)
	e.Reason = "there is none, neither in the backup nor at the target"
	if s.inBackup(e.Table) {
		e.Reason = "it is in the backup, and not there at the target, which may be too late"
	}
	if len(e.Near) > 0 {
		e.Reason += "; near"
	}
	return e
}

// inBackup tells whether the backup has a table of a name.
func (s *salvage) inBackup(t Table) bool {
	return slices.ContainsFunc(s.manifest.Catalog.Relations, func(r backup.Relation) bool {
		return r.Schema == t.Schema && r.Name == t.Name && s.manifest.Catalog.DatabaseName(r.Database) == s.database
	})
}

func listTables(ctx context.Context, conn *pgx.Conn, query string, args ...any) ([]Table, error) {
	rows, _ := conn.Query(ctx, query, args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Table])
}

// noFile is a relfilenode that is never given out: before it, numbers begin anew.
const noFile = 1<<32 - 1

// fence makes that what was not fetched, and is zero, cannot be read: to say nothing would be to say that there were no
// rows. Where the tables, their indexes or TOAST are of it, that is a *missedError.
func (s *salvage) fence(ctx context.Context, conn *pgx.Conn, wanted []uint32) error {
	type relation struct {
		OID    uint32
		Path   string
		Wanted bool
	}
	const query = `with tables as (
			select c.oid from pg_class c where c.oid = any($1)
			union all select c.reltoastrelid from pg_class c where c.oid = any($1))
		select c.oid, pg_relation_filepath(c.oid), c.oid in (select oid from tables) or coalesce(i.indrelid in (select oid from tables), false)
		from pg_class c left join pg_index i on i.indexrelid = c.oid
		where c.relkind in ('r', 'i', 't', 'm') and pg_relation_filepath(c.oid) is not null
			and (c.oid >= 16384 or c.oid in (2613, 2683)) -- system catalogs are there, but for pg_largeobject and its index`
	rows, _ := conn.Query(ctx, query, wanted)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		return err
	}
	missed := &missedError{}
	var out []uint32
	for _, r := range all {
		table, isOut := s.leftOut(r.Path)
		switch {
		case !isOut:
		case !r.Wanted:
			out = append(out, r.OID)
		case !slices.Contains(missed.tables, table):
			missed.tables = append(missed.tables, table)
		}
	}
	if len(missed.tables) > 0 {
		return missed
	}
	_, err = conn.Exec(ctx, `update pg_class set relfilenode = $2 where oid = any($1)`, out, uint32(noFile))
	return err
}

// leftOut tells whether a relation was not fetched, by the path of its file, and of which table in the backup it is.
func (s *salvage) leftOut(path string) (table uint32, ok bool) {
	r, known := s.names.Of(path)
	if !known {
		return 0, false // created since the backup
	}
	table = s.manifest.Catalog.TableOf(r)
	return table, !slices.Contains(s.oids, table)
}
