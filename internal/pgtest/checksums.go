package pgtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Checksums returns a checksum of all that a cluster holds for its users, so that two clusters can be compared:
//
//	"db"                               the database exists
//	"db.schema.table"                  its rows: their number, and a hash that does not depend on their order
//	"db.schema.sequence"               its position
//	"db.pg_catalog.pg_largeobject"     its large objects
//
// Every database that can be connected to is read in one repeatable-read transaction. Temporary and unlogged tables are
// left out, since recovery empties them. A sequence counts with the values that it has logged ahead (src/backend/
// commands/sequence.c, SEQ_LOG_VALS), so that its checksum is the same before a crash and after recovery.
func Checksums(t testing.TB, c *Cluster) map[string]string {
	t.Helper()
	sums := make(map[string]string)
	for _, db := range c.Databases(t) {
		sums[db] = "database"
		if err := checksumDatabase(t.Context(), c, db, sums); err != nil {
			t.Fatalf("pgtest: checksums of %s: %v", db, err)
		}
	}
	return sums
}

// relation is what Checksums has to know of a table, a materialized view or a sequence.
type relation struct {
	Schema, Name string
	Kind         string // pg_class.relkind
	Populated    bool   // false for a materialized view without data
	Increment    int64  // of a sequence
}

const listRelations = `
	SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relispopulated, coalesce(s.seqincrement, 0)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_sequence s ON s.seqrelid = c.oid
	WHERE c.relpersistence = 'p' AND c.relkind IN ('r', 'm', 'S')
	AND (n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') OR c.oid = 'pg_largeobject'::regclass)
	ORDER BY 1, 2`

func checksumDatabase(ctx context.Context, c *Cluster, db string, sums map[string]string) error {
	config, err := pgx.ParseConfig(c.DSN(db))
	if err != nil {
		return err
	}
	// All that the text of a row depends on.
	config.RuntimeParams = map[string]string{
		"timezone": "UTC", "datestyle": "ISO, YMD", "intervalstyle": "postgres", "extra_float_digits": "3",
		"bytea_output": "hex", "lc_monetary": "C", "xmloption": "content", "search_path": "pg_catalog",
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, listRelations) // CollectRows returns its error
		relations, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
		if err != nil {
			return err
		}
		for _, r := range relations {
			var sum string
			if err := tx.QueryRow(ctx, r.query()).Scan(&sum); err != nil {
				return fmt.Errorf("%s.%s: %w", r.Schema, r.Name, err)
			}
			sums[db+"."+r.Schema+"."+r.Name] = sum
		}
		return nil
	})
}

// query returns the statement that yields the relation's checksum as text.
func (r relation) query() string {
	name := pgx.Identifier{r.Schema, r.Name}.Sanitize()
	switch {
	case r.Kind == "S":
		return fmt.Sprintf(`SELECT (last_value + log_cnt * %d)::text || ', called: ' || is_called FROM %s`, r.Increment, name)
	case !r.Populated:
		return `SELECT 'not populated'`
	default:
		return fmt.Sprintf(`SELECT count(*) || ' rows, hash ' ||
			coalesce(sum(hashtextextended(pgtest_row::text, 0)::numeric), 0) FROM ONLY %s pgtest_row`, name)
	}
}
