package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// patience is how long a test waits for what should come soon.
const patience = time.Minute

// receiving is a Receive in the background.
type receiving struct {
	cancel context.CancelFunc
	ended  chan error

	mu   sync.Mutex
	last wal.ReceiveProgress
}

// receive starts to receive from a server. It ends with the test, or by stop.
func receive(t *testing.T, a *wal.Archive, dsn string, o wal.ReceiveOptions) *receiving {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &receiving{cancel: cancel, ended: make(chan error, 1)}
	o.Progress = func(p wal.ReceiveProgress) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last = p
	}
	go func() { r.ended <- a.Receive(ctx, dsn, &o) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-r.ended:
		case <-time.After(patience):
			t.Error("the receiver does not end")
		}
	})
	return r
}

func (r *receiving) progress() wal.ReceiveProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// await waits until the repository holds all WAL up to a position.
func (r *receiving) await(t *testing.T, at wal.LSN) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for r.progress().Durable < at {
		select {
		case err := <-r.ended:
			r.ended <- err
			require.FailNow(t, "the receiver ended", "%v", err)
		case <-time.After(5 * time.Millisecond):
		}
		require.False(t, time.Now().After(deadline), "waiting for %s, at %+v", at, r.progress())
	}
}

// stop ends the receiver, which must end well.
func (r *receiving) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	select {
	case err := <-r.ended:
		r.ended <- err
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "the receiver does not end")
	}
}

// flushed is where the server's WAL ends.
func flushed(t *testing.T, c *pgtest.Cluster) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(pgtest.Value[string](t, c, "SELECT pg_current_wal_flush_lsn()::text"))
	require.NoError(t, err)
	return l
}

// requireSameWAL demands that the archive gives back what the server has in pg_wal, from a segment on up to a position.
func requireSameWAL(t *testing.T, a *wal.Archive, c *pgtest.Cluster, first wal.Segment, end wal.LSN) {
	t.Helper()
	for s := first; s.Start() < end; s = s.Next() {
		want, err := os.ReadFile(filepath.Join(c.Data, "pg_wal", s.Name()))
		require.NoError(t, err)
		got := read(t, a, s.Name())
		n := min(uint64(end-s.Start()), uint64(s.Size))
		require.Len(t, got, int(s.Size))
		require.True(t, bytes.Equal(want[:n], got[:n]), "%s differs from the server's", s)
	}
}

// keepAll are settings that keep a server from removing WAL, so that all can be compared.
func keepAll(major int, more ...string) map[string]string {
	conf := map[string]string{"autovacuum": "off", "wal_keep_size": "4GB", "max_wal_size": "2GB", "wal_recycle": "off"}
	for i := 0; i < len(more); i += 2 {
		conf[more[i]] = more[i+1]
	}
	return conf
}

// TestReceive streams from every major, stops in the middle of a segment and goes on.
func TestReceive(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		size := segmentSizes[major] << 20
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: size, Conf: keepAll(major)})
		store := repotest.Mem(nil)
		a := openArchive(t, store, nil)
		o := wal.ReceiveOptions{Slot: "pgcairn_1", CreateSlot: true, FlushEvery: 20 * time.Millisecond, StatusEvery: time.Second}
		r := receive(t, a, c.DSN("postgres"), o)
		c.Exec(t, "CREATE TABLE t (i int, note text)", "INSERT INTO t SELECT i, repeat('x', i % 300) FROM generate_series(1, 20000) i")
		end := flushed(t, c)
		r.await(t, end)
		require.Eventually(t, func() bool {
			return pgtest.Value[bool](t, c, fmt.Sprintf(`SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = 'pgcairn'
				AND flush_lsn >= '%s' AND write_lsn = flush_lsn AND replay_lsn IS NULL)`, end))
		}, patience, 10*time.Millisecond)
		first, err := wal.ParseSegment(pgtest.Value[string](t, c, "SELECT pg_walfile_name((pg_control_checkpoint()).redo_lsn)"), uint32(size))
		require.NoError(t, err)
		requireSameWAL(t, a, c, first, end)
		cover, err := a.Coverage(t.Context())
		require.NoError(t, err)
		require.NotNil(t, cover.Timeline(1).Partial)
		require.GreaterOrEqual(t, cover.Timeline(1).Partial.End, end)

		r.stop(t)
		restart := pgtest.Value[string](t, c, "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'pgcairn_1'")
		at, err := wal.ParseLSN(restart)
		require.NoError(t, err)
		require.Equal(t, r.progress().Durable, at, "the last report has come")
		c.Exec(t, "INSERT INTO t SELECT i, repeat('y', i % 300) FROM generate_series(1, 20000) i", "SELECT pg_switch_wal()", "INSERT INTO t VALUES (0)")
		end = flushed(t, c)
		r = receive(t, a, c.DSN("postgres"), o)
		r.await(t, end)
		requireSameWAL(t, a, c, first, end)
		r.stop(t)
		cover, err = a.Coverage(t.Context())
		require.NoError(t, err)
		require.Len(t, cover.Timeline(1).Ranges, 1)
		require.Equal(t, first, cover.Timeline(1).Ranges[0].First)
		for _, key := range objects(t, store, "pieces/") {
			require.Contains(t, key, cover.Timeline(1).Partial.Segment.Name(), "what is archived needs no pieces")
		}
	})
}

var _ repo.Store
