package backup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// recoverySettings are those that a standby must not have lower than its primary (CheckRequiredParameterValues of
// xlogrecovery.c), and what decides on what is in the WAL.
func recoverySettings() []string {
	return []string{
		"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
		"wal_level",
	}
}

// catalogConnections is how many databases are asked at a time.
const catalogConnections = 2

// A connection counts until its process has ended, also one that was refused since there were too many. So who is refused
// alone is asked again after pauses that double, until they are so long that there are too many for another reason.
const (
	catalogPause        = 10 * time.Millisecond
	longestCatalogPause = time.Second
)

const databaseQuery = `select oid, datname, dattablespace, datallowconn from pg_database order by oid`

// relationQuery lists what has files. A relation whose filenode is in a map, as those of shared catalogs are, is asked
// for with the function. Temporary ones are in no backup.
const relationQuery = `select case when c.relisshared then 0::oid else d.oid end, c.oid, n.nspname, c.relname, c.relkind::text,
		case when c.reltablespace = 0 then d.dattablespace else c.reltablespace end,
		pg_relation_filenode(c.oid), coalesce(i.indrelid, p.oid, 0::oid)
	from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_database d on d.datname = current_database()
	left join pg_index i on i.indexrelid = c.oid left join pg_class p on c.relkind = 't' and p.reltoastrelid = c.oid
	where c.relkind in ('r', 'i', 'S', 't', 'm') and c.relpersistence <> 't' and pg_relation_filenode(c.oid) is not null`

// catalog asks the server for names. connect opens a connection to a database; nil is that there is only this one.
func (s *server) catalog(ctx context.Context, connect func(ctx context.Context, database string) (*pgx.Conn, error)) (*Catalog, error) {
	fail := func(err error) (*Catalog, error) {
		return nil, fmt.Errorf("backup: ask the server for names: %w", s.judge(ctx, err))
	}
	c := &Catalog{Settings: map[string]string{}}
	open, err := s.databases(ctx, c)
	if err != nil {
		return fail(err)
	}
	lists, failed := make([][]Relation, len(open)), make([]error, len(open))
	var g errgroup.Group
	g.SetLimit(catalogConnections)
	for i, name := range open {
		g.Go(func() error {
			lists[i], failed[i] = s.relations(ctx, name, connect)
			return nil
		})
	}
	_ = g.Wait()
	pause := catalogPause
	for i, name := range open {
		if codeOf(failed[i]) == tooManyConnections {
			lists[i], failed[i] = s.relations(ctx, name, connect) // alone
		}
		for ; codeOf(failed[i]) == tooManyConnections && pause < longestCatalogPause; pause *= 2 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return fail(ctx.Err())
			}
			lists[i], failed[i] = s.relations(ctx, name, connect)
		}
		if failed[i] == nil {
			pause = catalogPause
		}
		if ctx.Err() != nil {
			return fail(ctx.Err())
		}
		if failed[i] != nil {
			s.log.WarnContext(ctx, "the relations of a database are left without names", "database", name, "error", failed[i])
		}
	}
	c.Relations = slices.Concat(lists...)
	slices.SortFunc(c.Relations, compareRelations)
	// Every database tells of those that all share.
	c.Relations = slices.CompactFunc(c.Relations, func(a, b Relation) bool { return compareRelations(a, b) == 0 })
	return c, nil
}

// databases asks for the settings and the databases, and returns those that permit connections.
func (s *server) databases(ctx context.Context, c *Catalog) (open []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.conn.QueryRow(ctx, `select version()`).Scan(&c.Version); err != nil {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, `select name, setting from pg_settings where name = any($1)`, recoverySettings())
	if err != nil {
		return nil, err
	}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { c.Settings[name] = value; return nil }); err != nil {
		return nil, err
	}
	if rows, err = s.conn.Query(ctx, databaseQuery); err != nil {
		return nil, err
	}
	var d Database
	var allowed bool
	_, err = pgx.ForEachRow(rows, []any{&d.OID, &d.Name, &d.Tablespace, &allowed}, func() error {
		if c.Databases = append(c.Databases, d); allowed {
			open = append(open, d.Name)
		}
		return nil
	})
	return open, err
}

// relations asks for those of one database.
func (s *server) relations(ctx context.Context, database string,
	connect func(ctx context.Context, database string) (*pgx.Conn, error),
) ([]Relation, error) {
	conn := s.conn
	if database != conn.Config().Database {
		if connect == nil {
			return nil, nil
		}
		var err error
		if conn, err = connect(ctx, database); err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	} else {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	rows, err := conn.Query(ctx, relationQuery)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Relation])
}
