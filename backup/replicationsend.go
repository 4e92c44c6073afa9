package backup

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcairn/pgcairn/internal/pgwire"
	"github.com/pgcairn/pgcairn/wal"
)

// mapSince is the major version from which on the server lists tablespaces in a file. Before it does so as well, but then
// leaves out what is in tablespaces in place. There it is asked for links, whose paths have a bound.
const (
	mapSince = 16
	maxLink  = 99
)

// Send has the server begin the backup.
func (s *replicationSession) Send(ctx context.Context, base *Manifest) (sending Sending, err error) {
	if base != nil && s.settings.Version >= 170000 {
		err := s.sendDifference(ctx, base)
		if ctx.Err() != nil {
			return sending, ctx.Err()
		}
		if s.difference = err == nil; err != nil {
			sending.Reason = err.Error()
		}
	}
	if s.backup == nil {
		if err := s.send(ctx, false); err != nil {
			return sending, err
		}
	}
	s.start.Timeline, s.start.LSN = wal.Timeline(s.backup.Start.Timeline), wal.LSN(s.backup.Start.LSN)
	for _, t := range s.backup.Tablespaces {
		sending.Total += max(0, t.Size)
		switch {
		case t.OID == 0:
			continue // the data directory
		case !path.IsAbs(t.Location): // in place: part of the data directory
		case !s.mapped() && len(t.Location) > maxLink:
			return sending, fmt.Errorf("backup: tablespace %d: servers before PostgreSQL %d cannot send that it is at %s: "+
				"paths of at most %d bytes are possible by replication", t.OID, mapSince, t.Location, maxLink)
		default:
			s.start.Tablespaces = append(s.start.Tablespaces, Tablespace{OID: t.OID, Location: t.Location})
		}
		s.ahead = append(s.ahead, Entry{Path: tablespacePath(t.OID), Dir: true})
	}
	if !s.mapped() {
		s.tablespaceMap = mapOf(s.start.Tablespaces)
	}
	slices.SortFunc(s.start.Tablespaces, func(a, b Tablespace) int { return cmp.Compare(a.OID, b.OID) })
	sending.Difference = s.difference
	return sending, s.nameTablespaces(ctx)
}

func (s *replicationSession) mapped() bool { return s.settings.Version/10000 >= mapSince }

// sendDifference has the server send what has changed since a base. What it refuses leaves the connection usable.
func (s *replicationSession) sendDifference(ctx context.Context, base *Manifest) error {
	conn := s.conn.PgConn()
	on, err := pgwire.Show(ctx, conn, "summarize_wal")
	if err != nil {
		return err
	}
	if on != "on" {
		return errors.New("summarize_wal is off")
	}
	r, w := io.Pipe()
	described := make(chan struct{})
	go func() {
		defer close(described)
		_ = w.CloseWithError(describeBase(base, w))
	}()
	err = pgwire.UploadManifest(ctx, conn, r)
	_ = r.Close() // which ends the other side
	<-described
	if err != nil {
		return err
	}
	return s.send(ctx, true)
}

// send has the server begin to send.
func (s *replicationSession) send(ctx context.Context, difference bool) error {
	s.source.holdWAL(ctx, s.conn.PgConn())
	var err error
	if s.start.Time, err = pgwire.Clock(ctx, s.conn.PgConn()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	s.backup, err = pgwire.BaseBackup(ctx, s.conn.PgConn(), &pgwire.BackupOptions{
		Label: s.options.Label, Fast: !s.options.Spread, TablespaceMap: s.mapped(), Progress: true, Manifest: !difference,
		Incremental: difference, Notice: func(n *pgconn.Notice) { s.source.notice(ctx, n) },
	})
	if err != nil {
		s.backup = nil // not an interface, but nobody is to close it
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// holdWAL does what server.holdWAL does.
func (r *replication) holdWAL(ctx context.Context, c *pgconn.PgConn) {
	if err := pgwire.HoldWAL(ctx, c, "pgcairn_"+strings.ToLower(rand.Text()[:12])); err != nil {
		r.log.InfoContext(ctx, "WAL is not held back during the backup", "reason", err)
	}
}

// notice passes on what the server has to say.
func (r *replication) notice(ctx context.Context, n *pgconn.Notice) {
	level := slog.LevelInfo
	if n.SeverityUnlocalized == "WARNING" {
		level = slog.LevelWarn
	}
	r.log.Log(ctx, level, "the server says: "+n.Message, "detail", n.Detail, "hint", n.Hint)
}

// mapOf is the content of tablespace_map, as do_pg_backup_start makes it.
func mapOf(tablespaces []Tablespace) string {
	var b strings.Builder
	for _, t := range tablespaces {
		fmt.Fprintf(&b, "%d %s\n", t.OID, strings.NewReplacer("\n", "\\\n", "\r", "\\\r", `\`, `\\`).Replace(t.Location))
	}
	return b.String()
}
