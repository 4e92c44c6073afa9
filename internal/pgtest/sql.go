package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Connect connects to the database postgres until the test ends.
func (c *Cluster) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	return c.ConnectTo(t, "postgres")
}

// ConnectTo connects to a database until the test ends.
func (c *Cluster) ConnectTo(t testing.TB, db string) *pgx.Conn {
	t.Helper()
	conn := c.dial(t, db)
	t.Cleanup(func() { closeConn(conn) })
	return conn
}

// Exec executes statements in the database postgres, each on its own and outside a transaction, on one connection.
func (c *Cluster) Exec(t testing.TB, sql ...string) {
	t.Helper()
	c.ExecIn(t, "postgres", sql...)
}

// ExecIn does in another database what [Cluster.Exec] does in postgres.
func (c *Cluster) ExecIn(t testing.TB, db string, sql ...string) {
	t.Helper()
	conn := c.dial(t, db)
	defer closeConn(conn)
	for _, s := range sql {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("pgtest: %s: %v", s, err)
		}
	}
}

// Value returns the single value that a query in the database postgres yields.
func Value[T any](t testing.TB, c *Cluster, sql string, args ...any) T {
	t.Helper()
	return ValueIn[T](t, c, "postgres", sql, args...)
}

// ValueIn does in another database what [Value] does in postgres.
func ValueIn[T any](t testing.TB, c *Cluster, db, sql string, args ...any) T {
	t.Helper()
	conn := c.dial(t, db)
	defer closeConn(conn)
	rows, _ := conn.Query(t.Context(), sql, args...) // CollectExactlyOneRow returns its error
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("pgtest: %s: %v", sql, err)
	}
	return v
}

// Databases returns the names of the databases that can be connected to, template1 included, in order.
func (c *Cluster) Databases(t testing.TB) []string {
	t.Helper()
	// datconnlimit is -2 in a database whose DROP was interrupted.
	return Value[[]string](t, c, `
		SELECT array_agg(datname::text ORDER BY datname::text COLLATE "C")
		FROM pg_database WHERE datallowconn AND datconnlimit <> -2`)
}

func (c *Cluster) dial(t testing.TB, db string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN(db))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return conn
}

// closeConn closes a connection, whose server may be gone by then, also when the test's context has ended.
func closeConn(conn *pgx.Conn) { _ = conn.Close(context.Background()) }
