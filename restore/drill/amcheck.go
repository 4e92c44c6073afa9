package drill

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Amcheck is what to have checked by PostgreSQL's extension amcheck, which is made in each database of the copy.
type Amcheck string

// What amcheck checks. HeapAllIndexed also reads all tables, to see that each row is in its indexes and, from PostgreSQL 14
// on, that the tables are sound themselves.
const (
	NoAmcheck      Amcheck = ""
	Indexes        Amcheck = "indexes"          // the structure of all B-tree indexes (bt_index_check)
	HeapAllIndexed Amcheck = "heap-all-indexed" // that, that they lack nothing, and tables (verify_heapam)
)

// Indexes that are being built have nothing to check, and temporary ones nobody who could.
const btreeIndexes = `
	select c.oid, c.oid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam
	where am.amname = 'btree' and c.relkind = 'i' and c.relpersistence <> 't' and i.indisvalid and i.indisready order by 1`

// Tables, materialized views and TOAST tables. Temporary ones are nobody's.
const heaps = `
	select c.oid, c.oid::regclass::text from pg_class c join pg_am am on am.oid = c.relam
	where am.amname = 'heap' and c.relkind in ('r', 'm', 't') and c.relpersistence <> 't' order by 1`

// sinceHeaps is the version of the server that brought verify_heapam.
const sinceHeaps = 140000

type relation struct {
	OID  uint32
	Name string
}

// amcheck checks all databases.
func (s *server) amcheck(ctx context.Context, how Amcheck) []CheckResult {
	conn, err := s.connect(ctx, "")
	if err != nil {
		r := CheckResult{Name: "amcheck"}
		r.problem("%v", err)
		return []CheckResult{r}
	}
	// A database whose drop was interrupted has a limit of -2.
	rows, _ := conn.Query(ctx, `select datname::text from pg_database where datallowconn and datconnlimit <> -2 order by 1`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string]) // and Query's error
	closeConn(conn)
	if err != nil {
		r := CheckResult{Name: "amcheck"}
		r.problem("%v", err)
		return []CheckResult{r}
	}
	var all []CheckResult
	for _, name := range names {
		r := CheckResult{Name: "amcheck", Database: name, OK: true}
		if err := s.amcheckDatabase(ctx, how, &r); err != nil {
			r.problem("%v", err)
		}
		all = append(all, r)
	}
	return all
}

func (s *server) amcheckDatabase(ctx context.Context, how Amcheck, r *CheckResult) error {
	conn, err := s.connectTo(ctx, r.Database)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	// As a replica, since triggers on what follows are not for a copy.
	if _, err := conn.Exec(ctx, `set session_replication_role = replica`); err != nil {
		return err
	}
	schema, err := amcheckSchema(ctx, conn)
	if err != nil {
		return err
	}
	rows, _ := conn.Query(ctx, btreeIndexes)
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		return err
	}
	check := `select ` + pgx.Identifier{schema, "bt_index_check"}.Sanitize() + `(index => $1::oid::regclass, heapallindexed => $2)`
	for _, i := range indexes {
		if _, err := conn.Exec(ctx, check, i.OID, how == HeapAllIndexed); err != nil {
			if conn.IsClosed() {
				return err
			}
			r.problem("index %s: %v", i.Name, err)
		}
		r.Rows++
	}
	if how != HeapAllIndexed {
		return nil
	}
	return checkHeaps(ctx, conn, schema, r)
}

// checkHeaps checks all tables of a database.
func checkHeaps(ctx context.Context, conn *pgx.Conn, schema string, r *CheckResult) error {
	var version int
	if err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return err
	}
	if version < sinceHeaps {
		return nil
	}
	rows, _ := conn.Query(ctx, heaps)
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		return err
	}
	check := `select format('block %s, offset %s, attribute %s: %s', blkno, offnum, attnum, msg) from ` +
		pgx.Identifier{schema, "verify_heapam"}.Sanitize() + `(relation => $1::oid::regclass, check_toast => true) limit $2`
	for _, t := range tables {
		rows, _ := conn.Query(ctx, check, t.OID, maxProblems)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			if conn.IsClosed() {
				return err
			}
			r.problem("table %s: %v", t.Name, err)
		}
		for _, text := range found {
			r.problem("table %s: %s", t.Name, text)
		}
		r.Rows++
	}
	return nil
}

// amcheckSchema is the schema of the extension, which is made where there is none, and is of the newest version: after
// pg_upgrade it may be of an older server.
func amcheckSchema(ctx context.Context, conn *pgx.Conn) (string, error) {
	const query = `select n.nspname::text from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'amcheck'`
	rows, _ := conn.Query(ctx, query)
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	if len(schemas) > 0 {
		_, err := conn.Exec(ctx, `alter extension amcheck update`)
		return schemas[0], err
	}
	const schema = "pgcairn_drill"
	for _, sql := range []string{`create schema ` + schema, `create extension amcheck schema ` + schema} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	return schema, nil
}
