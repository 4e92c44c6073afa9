package backup

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// A walsender knows no names. What the role may read by an ordinary connection adds them, and its not being possible is
// no failure of the backup.

// ask has a question answered by an ordinary connection, if there can be one.
func (r *replication) ask(ctx context.Context, what string, question func(*pgx.Conn) error) error {
	conn, err := r.open(ctx, map[string]string{"application_name": "pgcairn"})
	if err == nil {
		defer func() { _ = hangUp(conn) }()
		err = question(conn)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.log.InfoContext(ctx, "the backup does without "+what+": the role cannot read them", "reason", err)
	}
	return nil
}

// Catalog implements [Cataloger].
func (s *replicationSession) Catalog(ctx context.Context) (c *Catalog, err error) {
	err = s.source.ask(ctx, "names of relations", func(conn *pgx.Conn) error {
		named := server{conn: conn, log: s.source.log, version: s.settings.Version}
		c, err = named.catalog(ctx, s.source.connectTo)
		return err
	})
	if err != nil || c != nil {
		return c, err
	}
	c = &Catalog{Settings: map[string]string{}}
	for _, name := range recoverySettings() {
		if c.Settings[name], err = pgwire.Show(ctx, s.conn.PgConn(), name); err != nil {
			return nil, fmt.Errorf("backup: ask the server: %w", err)
		}
	}
	version, err := pgwire.Show(ctx, s.conn.PgConn(), "server_version")
	if err != nil {
		return nil, fmt.Errorf("backup: ask the server: %w", err)
	}
	c.Version = "PostgreSQL " + version
	return c, nil
}

// nameTablespaces fills in the names of tablespaces, where they can be known.
func (s *replicationSession) nameTablespaces(ctx context.Context) error {
	if len(s.start.Tablespaces) == 0 {
		return nil
	}
	return s.source.ask(ctx, "names of tablespaces", func(conn *pgx.Conn) error {
		for i, t := range s.start.Tablespaces {
			err := conn.QueryRow(ctx, `select spcname from pg_catalog.pg_tablespace where oid = $1`, t.OID).Scan(&s.start.Tablespaces[i].Name)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
