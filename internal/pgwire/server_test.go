package pgwire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// TestServers speaks with a server of every major.
func TestServers(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		ctx := t.Context()
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: 1 << 20})
		connect := func() *pgconn.PgConn {
			conn, err := pgconn.Connect(ctx, c.DSN("postgres")+" replication=true")
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close(ctx) })
			return conn
		}
		conn := connect()
		s, err := pgwire.Identify(ctx, conn)
		require.NoError(t, err)
		require.EqualValues(t, pgtest.Value[int64](t, c, "SELECT system_identifier FROM pg_control_system()"), s.ID)
		require.EqualValues(t, 1, s.Timeline)
		size, err := pgwire.SegmentSize(ctx, conn)
		require.NoError(t, err)
		require.EqualValues(t, 1<<20, size)
		settings, err := pgwire.ReadSettings(ctx, conn)
		require.NoError(t, err)
		require.Equal(t, pgwire.Settings{
			Version: pgtest.Value[int](t, c, "SELECT current_setting('server_version_num')::int"), PageSize: 8192, RelSegPages: 131072,
			WALSegmentSize: 1 << 20, Checksums: true,
		}, settings)
		before := pgtest.Value[time.Time](t, c, "SELECT clock_timestamp()")
		now, err := pgwire.Clock(ctx, conn)
		require.NoError(t, err)
		require.WithinRange(t, now, before, pgtest.Value[time.Time](t, c, "SELECT clock_timestamp()"))

		// WAL is held until the server says no to something.
		const held = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND restart_lsn IS NOT NULL"
		require.NoError(t, pgwire.HoldWAL(ctx, conn, "held"))
		require.EqualValues(t, 1, pgtest.Value[int64](t, c, held))
		require.Error(t, pgwire.HoldWAL(ctx, connect(), "held"))
		require.EqualValues(t, 1, pgtest.Value[int64](t, c, held))
		_, err = pgwire.TimelineHistory(ctx, conn, 2)
		require.Error(t, err)
		require.Zero(t, pgtest.Value[int64](t, c, held))

		_, exists, err := pgwire.ReadSlot(ctx, conn, "one")
		if major < 15 {
			require.ErrorIs(t, err, errors.ErrUnsupported)
		} else {
			require.NoError(t, err)
			require.False(t, exists)
		}
		created, err := pgwire.CreateSlot(ctx, conn, "one")
		require.NoError(t, err)
		require.True(t, created)
		created, err = pgwire.CreateSlot(ctx, conn, "one")
		require.NoError(t, err)
		require.False(t, created)
		if major >= 15 {
			at, exists, err := pgwire.ReadSlot(ctx, conn, "one")
			require.NoError(t, err)
			require.True(t, exists)
			require.NotZero(t, at)
		}

		// What is refused leaves the connection usable.
		var refused *pgconn.PgError
		_, err = pgwire.Start(ctx, conn, "another", 1, s.Position)
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "42704", refused.Code)
		from := s.Position &^ (1<<20 - 1)
		stream, err := pgwire.Start(ctx, conn, "one", 1, from)
		require.NoError(t, err)
		for at := from; at < s.Position; {
			m, err := stream.Receive()
			require.NoError(t, err)
			if m.Kind == pgwire.WAL {
				require.Equal(t, at, m.Start)
				at = m.End()
			}
		}
		require.NoError(t, stream.Send(pgwire.Status{Write: from, Flush: from, Time: time.Now(), Reply: true}))
		m, err := stream.Receive()
		require.NoError(t, err)
		require.Equal(t, pgwire.Keepalive, m.Kind, "an answer")
		require.NoError(t, stream.Stop())
		for m.Kind != pgwire.Done {
			m, err = stream.Receive()
			require.NoError(t, err)
		}
		// A position that the server has not come to it refuses within the stream.
		stream, err = pgwire.Start(ctx, connect(), "", 1, s.Position+1<<30)
		require.NoError(t, err)
		_, err = stream.Receive()
		require.ErrorAs(t, err, &refused)

		// WAL can be copied, as long as it is there.
		pgtest.Value[string](t, c, "SELECT pg_switch_wal()::text")
		name := fmt.Sprintf("%08X%08X%08X", 1, from>>32, uint32(from)>>20)
		want, err := os.ReadFile(filepath.Join(c.Data, "pg_wal", name))
		require.NoError(t, err)
		var wal bytes.Buffer
		conn = connect()
		require.NoError(t, copyWAL(ctx, conn, 1, from, from+1<<20, &wal))
		require.True(t, bytes.Equal(want, wal.Bytes()))
		wal.Reset()
		require.NoError(t, copyWAL(ctx, conn, 1, from+1000, from+1003, &wal))
		require.Equal(t, want[1000:1003], wal.Bytes())
		require.NoError(t, os.Rename(filepath.Join(c.Data, "pg_wal", name), filepath.Join(c.Data, "pg_wal", "away")))
		require.ErrorIs(t, copyWAL(ctx, conn, 1, from, from+1<<20, &wal), pgwire.ErrRemoved)
		require.NoError(t, os.Rename(filepath.Join(c.Data, "pg_wal", "away"), filepath.Join(c.Data, "pg_wal", name)))
		require.NoError(t, copyWAL(ctx, conn, 1, from, from+1, &wal))
		// Closed before its end, the connection can be used on as well.
		r, err := pgwire.ReadWAL(ctx, conn, 1, from, from+1<<30)
		require.NoError(t, err)
		_, err = r.Read(ctx, make([]byte, 10))
		require.NoError(t, err)
		require.Equal(t, from+10, r.Position())
		require.NoError(t, r.Close(ctx))
		_, err = r.Read(ctx, make([]byte, 10))
		require.ErrorIs(t, err, fs.ErrClosed)
		require.NoError(t, copyWAL(ctx, conn, 1, from, from+1, &wal))
	})
}

// copyWAL copies WAL, and leaves the connection usable.
func copyWAL(ctx context.Context, c *pgconn.PgConn, timeline uint32, from, to uint64, w io.Writer) error {
	r, err := pgwire.ReadWAL(ctx, c, timeline, from, to)
	if err != nil {
		return err
	}
	for b := make([]byte, 5000); ; {
		n, err := r.Read(ctx, b)
		if _, werr := w.Write(b[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return r.Close(ctx)
		}
		if err != nil {
			return errors.Join(err, r.Close(ctx))
		}
	}
}
