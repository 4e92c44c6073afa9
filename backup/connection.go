package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// connector returns what opens a connection: the caller's own function or, without one, the connection string.
func connector(conn string, own func(context.Context) (*pgx.Conn, error)) (func(context.Context) (*pgx.Conn, error), error) {
	if own != nil {
		return own, nil
	}
	config, err := pgx.ParseConfig(conn)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err) // pgx redacts passwords
	}
	return func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, config) }, nil
}

// connectorTo returns what opens a connection to any database of the server of a connection string.
func connectorTo(conn string) func(ctx context.Context, database string) (*pgx.Conn, error) {
	return func(ctx context.Context, database string) (*pgx.Conn, error) {
		config, err := pgx.ParseConfig(conn)
		if err != nil {
			return nil, err
		}
		config.Database = database
		return pgx.ConnectConfig(ctx, config)
	}
}

// connectError hides fs.ErrNotExist, which a missing socket matches: it tells nothing about an object.
type connectError struct{ err error }

func (e *connectError) Error() string { return "backup: connect to the server: " + e.err.Error() }

func (e *connectError) Is(target error) bool {
	return target != fs.ErrNotExist && errors.Is(e.err, target)
}

func (e *connectError) As(target any) bool { return errors.As(e.err, target) }

// prepareSession makes the settings of a connection such that a backup can use it, and returns when its server was
// started, in microseconds: two connections are to the same server, not restarted since, if and only if that is equal.
func prepareSession(ctx context.Context, conn *pgx.Conn, version int) (started int64, err error) {
	// Time limits meant for queries of applications would end the backup.
	off := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
	if version >= 140000 {
		off = append(off, "idle_session_timeout")
	}
	if version >= 170000 {
		off = append(off, "transaction_timeout")
	}
	query := "select (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint"
	for _, name := range off {
		query += ", set_config('" + name + "', '0', false)"
	}
	// When the network fails, the server is to notice soon, and to end the backup that nobody waits for any more.
	query += ", set_config('tcp_keepalives_idle', '60', false), set_config('tcp_keepalives_interval', '10', false)" +
		", set_config('tcp_keepalives_count', '6', false)"
	// Functions of the server's own, whatever others there are of the same name; and no compiling of short queries.
	query += ", set_config('search_path', 'pg_catalog', false), set_config('jit', 'off', false)"
	query += ", set_config('application_name', coalesce(nullif(current_setting('application_name'), ''), 'pgcairn'), false)"
	results, err := conn.PgConn().Exec(ctx, query).ReadAll()
	if err != nil {
		return 0, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return 0, errors.New("the server gave no answer")
	}
	return strconv.ParseInt(string(results[0].Rows[0][0]), 10, 64)
}

// closeTimeout bounds how long the end of connections is waited for.
const closeTimeout = 5 * time.Second

// hangUp closes connections, also when the caller's context has been cancelled.
func hangUp(conns ...*pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var failed error
	for _, conn := range conns {
		failed = errors.Join(failed, conn.Close(ctx))
	}
	for _, conn := range conns {
		// A query that was cancelled is being cancelled on the server too, in the background.
		select {
		case <-conn.PgConn().CleanupDone():
		case <-ctx.Done():
		}
	}
	return failed
}
