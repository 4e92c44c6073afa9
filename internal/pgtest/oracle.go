package pgtest

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgChecksums checks every page of a stopped cluster with the distribution's pg_checksums. It reads clusters of
// [DistroMajor] only; any other fails the test.
func PgChecksums(t testing.TB, pgdata string) {
	t.Helper()
	major, err := majorOf(pgdata)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if distro := DistroMajor(t); major != distro {
		t.Fatalf("pgtest: pg_checksums of PostgreSQL %d cannot read a cluster of PostgreSQL %d", distro, major)
	}
	Own(t, pgdata)
	Run(t, DistroBin(t, "pg_checksums"), "--check", "--pgdata="+pgdata)
}

const (
	checkIndexes = `
		SELECT count(bt_index_check(index => c.oid, heapallindexed => true))
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
		WHERE am.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid AND i.indisready`
	checkHeaps = `
		SELECT format('%s block %s offset %s attribute %s: %s', c.oid::regclass, v.blkno, v.offnum, v.attnum, v.msg)
		FROM pg_class c JOIN pg_am am ON am.oid = c.relam, verify_heapam(relation => c.oid, check_toast => true) v
		WHERE am.amname = 'heap' AND c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't'`
)

// Amcheck checks every B-tree index of every database against its table and, from PostgreSQL 14 on, every table, with
// the server's own extension amcheck. The server must be writable. Every corruption found fails the test.
func Amcheck(t testing.TB, c *Cluster) {
	t.Helper()
	for _, db := range c.Databases(t) {
		conn := c.dial(t, db)
		if _, err := conn.Exec(t.Context(), "CREATE EXTENSION IF NOT EXISTS amcheck"); err != nil {
			t.Errorf("pgtest: amcheck in %s: %v", db, err)
		}
		if n, err := pgx.CollectExactlyOneRow(query(t, conn, checkIndexes), pgx.RowTo[int64]); err != nil || n == 0 {
			t.Errorf("pgtest: amcheck in %s: %d indexes checked: %v", db, n, err)
		}
		if c.Major >= 14 {
			found, err := pgx.CollectRows(query(t, conn, checkHeaps), pgx.RowTo[string])
			if err != nil {
				t.Errorf("pgtest: amcheck in %s: %v", db, err)
			}
			for _, f := range found {
				t.Errorf("pgtest: amcheck in %s: %s", db, f)
			}
		}
		closeConn(conn)
	}
}

// query leaves the error to the function that collects the rows.
func query(t testing.TB, conn *pgx.Conn, sql string) pgx.Rows {
	t.Helper()
	rows, _ := conn.Query(t.Context(), sql)
	return rows
}
