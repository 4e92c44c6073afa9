package wal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// receiveEnv holds what a child process that receives is to do.
const receiveEnv = "PGCAIRN_TEST_WAL_RECEIVE"

type receiveTask struct{ Repo, Identity, DSN string }

// TestReceiveChild is the main function of processes that receive until they are killed.
func TestReceiveChild(t *testing.T) {
	text := os.Getenv(receiveEnv)
	if text == "" {
		return
	}
	var do receiveTask
	require.NoError(t, json.Unmarshal([]byte(text), &do))
	store, err := repo.OpenDir(do.Repo, &repo.DirOptions{MustExist: true})
	require.NoError(t, err)
	var o *repo.Options
	if do.Identity != "" {
		o = &repo.Options{Cipher: cipher(t, do.Identity)}
	}
	a := openArchive(t, store, o)
	require.NoError(t, a.Receive(context.Background(), do.DSN, soakOptions()))
}

func soakOptions() *wal.ReceiveOptions {
	return &wal.ReceiveOptions{Slot: "soak", CreateSlot: true, FlushEvery: 50 * time.Millisecond, StatusEvery: time.Second, Timeout: 5 * time.Second}
}

// proxy passes TCP connections on to a Unix socket.
type proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	conns []net.Conn
	delay time.Duration // before each piece of what the server sends
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, target: target}
	t.Cleanup(func() {
		l.Close()
		p.cut()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(c)
		}
	}()
	return p
}

// dsn is a connection string by way of the proxy.
func (p *proxy) dsn() string {
	_, port, _ := net.SplitHostPort(p.listener.Addr().String())
	return "host=127.0.0.1 port=" + port + " user=postgres dbname=postgres sslmode=disable"
}

func (p *proxy) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	go func() {
		io.Copy(server, client)
		server.Close()
	}()
	b := make([]byte, 16<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		delay := p.delay
		p.mu.Unlock()
		time.Sleep(delay)
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

// cut closes all connections there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// TestReceiveKilled kills the receiver of a server under the load of pgbench, and cuts and slows the connection between
// them. Nothing may be missing or different, and at no time may the slot be ahead of what the repository holds.
func TestReceiveKilled(t *testing.T) {
	t.Parallel()
	for kind, major := range map[string]int{"plain": 18, "encrypted": 13} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rounds, pause := 6, 700*time.Millisecond
			if *soak {
				rounds, pause = 40, 3*time.Second
			}
			c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: wal.MinSegmentSize, Conf: keepAll(major)})
			a, do := openDir(t, kind)
			p := newProxy(t, filepath.Join(c.Socket, ".s.PGSQL."+strconv.Itoa(c.Port)))
			text, err := json.Marshal(receiveTask{Repo: do.Repo, Identity: do.Identity, DSN: p.dsn()})
			require.NoError(t, err)
			first, err := wal.ParseSegment(pgtest.Value[string](t, c, "SELECT pg_walfile_name((pg_control_checkpoint()).redo_lsn)"), wal.MinSegmentSize)
			require.NoError(t, err)
			load := pgtest.StartPgbench(t, c, &pgtest.PgbenchOptions{Rate: 500})
			for round := range rounds {
				cmd := exec.Command(os.Args[0], "-test.run=^TestReceiveChild$")
				cmd.Env = append(os.Environ(), receiveEnv+"="+string(text))
				cmd.Stderr = os.Stderr
				require.NoError(t, cmd.Start())
				for range 3 {
					time.Sleep(pause / 3)
					// So much in one transaction that some segments are complete in every round.
					c.Exec(t, "CREATE TABLE IF NOT EXISTS bulk (i int, text text)",
						"INSERT INTO bulk SELECT i, md5(i::text) FROM generate_series(1, 8000) i")
					switch round % 3 {
					case 1:
						p.cut()
					case 2:
						p.slow(2 * time.Millisecond)
					}
					requireSlotNotAhead(t, a, c)
				}
				require.NoError(t, cmd.Process.Kill())
				err := cmd.Wait()
				var exit *exec.ExitError
				require.ErrorAs(t, err, &exit)
				require.Equal(t, -1, exit.ExitCode(), "it ended before it was killed")
				requireSlotNotAhead(t, a, c)
				p.slow(0)
			}
			transactions := load.Stop(t)
			require.Positive(t, transactions)
			end := flushed(t, c)
			killed, err := a.Coverage(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, killed.Timelines)
			require.Positive(t, killed.Timelines[0].Segments, "no receiver lived long enough to archive a segment")
			r := receive(t, a, p.dsn(), *soakOptions())
			r.await(t, end)
			r.stop(t)
			cover, err := a.Coverage(t.Context())
			require.NoError(t, err)
			require.Len(t, cover.Timelines, 1)
			require.Len(t, cover.Timelines[0].Ranges, 1, "no gap")
			require.Equal(t, first, cover.Timelines[0].Ranges[0].First)
			requireSameWAL(t, a, c, first, end)
			requireSameFetched(t, a, c, cover.Timelines[0].Ranges[0])
			t.Logf("%d transactions, %d segments", transactions, cover.Timelines[0].Segments)
		})
	}
}

// requireSameFetched demands that recovery which fetches ahead gets what the server has in pg_wal.
func requireSameFetched(t *testing.T, a *wal.Archive, c *pgtest.Cluster, r wal.Range) {
	t.Helper()
	ahead, err := a.Prefetch(&wal.PrefetchOptions{Dir: t.TempDir()})
	require.NoError(t, err)
	dst := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
		require.NoError(t, ahead.Fetch(t.Context(), s.Name(), dst))
		want, err := os.ReadFile(filepath.Join(c.Data, "pg_wal", s.Name()))
		require.NoError(t, err)
		got, err := os.ReadFile(dst)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s differs from the server's", s)
	}
	require.NoError(t, ahead.Close())
}

// requireSlotNotAhead demands that the repository holds all that the slot says is safe to forget. The slot is asked
// first, since the archive grows.
func requireSlotNotAhead(t *testing.T, a *wal.Archive, c *pgtest.Cluster) {
	t.Helper()
	text := pgtest.Value[*string](t, c, "SELECT max(restart_lsn)::text FROM pg_replication_slots WHERE slot_name = 'soak'")
	sent := pgtest.Value[*string](t, c, "SELECT max(flush_lsn)::text FROM pg_stat_replication")
	cover, err := a.Coverage(t.Context())
	require.NoError(t, err)
	for _, text := range []*string{text, sent} {
		if text == nil || len(cover.Timelines) == 0 {
			continue
		}
		slot, err := wal.ParseLSN(*text)
		require.NoError(t, err)
		var end wal.LSN
		if n := len(cover.Timelines[0].Ranges); n > 0 {
			end = cover.Timelines[0].Ranges[n-1].Last.End()
		}
		if p := cover.Timelines[0].Partial; p != nil && p.Segment.Start() <= end || p != nil && end == 0 {
			end = max(end, p.End)
		}
		require.False(t, end != 0 && slot > end, "the slot is at %s, the archive ends at %s", slot, end)
	}
}

// TestReceiveFollowsTimelines has a standby take over twice, and the receiver go with it.
func TestReceiveFollowsTimelines(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: wal.MinSegmentSize, Conf: keepAll(major)})
			a, _ := openDir(t, "plain")
			o := *soakOptions()
			r := receive(t, a, c.DSN("postgres"), o)
			first, err := wal.ParseSegment(pgtest.Value[string](t, c, "SELECT pg_walfile_name((pg_control_checkpoint()).redo_lsn)"), wal.MinSegmentSize)
			require.NoError(t, err)
			c.Exec(t, "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 30000) i")
			r.await(t, flushed(t, c))
			for range 2 {
				// It is a standby of nobody for a moment, from which the receiver goes on receiving, and is then promoted.
				promote(t, c)
				c.Exec(t, "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 30000) i")
				r.await(t, flushed(t, c))
			}
			require.EqualValues(t, 3, r.progress().Timeline)
			r.stop(t)
			cover, err := a.Coverage(t.Context())
			require.NoError(t, err)
			require.Len(t, cover.Timelines, 3)
			end := flushed(t, c)
			h, ok := cover.History(3)
			require.True(t, ok)
			_, ok = cover.History(2)
			require.True(t, ok)
			require.Len(t, h.Forks, 2)
			from := first
			for _, f := range h.Forks {
				requireSameWAL(t, a, c, from, wal.SegmentAt(f.Timeline, f.At, from.Size).Start())
				from = wal.SegmentAt(f.Timeline+1, f.At, from.Size)
				// Of the segment in which a timeline was left, pieces are held.
				require.NotNil(t, cover.Timeline(f.Timeline).Partial)
				require.Equal(t, f.At, cover.Timeline(f.Timeline).Partial.End)
			}
			requireSameWAL(t, a, c, from, end)
			for _, name := range []string{"00000002.history", "00000003.history"} {
				b, err := os.ReadFile(filepath.Join(c.Data, "pg_wal", name))
				require.NoError(t, err)
				requireHeld(t, a, name, b)
			}
			// Another, started anew, finds nothing to do and no conflict.
			r = receive(t, a, c.DSN("postgres"), o)
			r.await(t, end)
			r.stop(t)
		})
	}
}

// TestReceiveBesides: two receivers and an archive_command archive one server; then another cluster comes, and a copy
// that has gone its own way.
func TestReceiveBesides(t *testing.T) {
	t.Parallel()
	archive := pgtest.Dir(t)
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: keepAll(18,
		"archive_mode", "on", "archive_command", "cp %p "+archive+"/%f")})
	a, _ := openDir(t, "plain")
	c.Exec(t, "CREATE TABLE t (i int, text text)", "CHECKPOINT")
	c.Stop(t)
	copied := pgtest.Copy(t, c.Data)
	c.Start(t)
	one := receive(t, a, c.DSN("postgres"), wal.ReceiveOptions{FlushEvery: 10 * time.Millisecond})
	two := receive(t, a, c.DSN("postgres"), wal.ReceiveOptions{FlushEvery: 35 * time.Millisecond, Slot: "two", CreateSlot: true, ApplicationName: "two"})
	for range 5 {
		c.Exec(t, "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 10000) i")
		entries, err := os.ReadDir(archive)
		require.NoError(t, err)
		for _, e := range entries {
			require.NoError(t, a.Push(t.Context(), filepath.Join(archive, e.Name())))
		}
	}
	end := flushed(t, c)
	one.await(t, end)
	two.await(t, end)
	one.stop(t)
	two.stop(t)

	other := pgtest.New(t, nil)
	var foreign *wal.ForeignError
	require.ErrorAs(t, a.Receive(t.Context(), other.DSN("postgres"), nil), &foreign)

	twin := pgtest.Boot(t, copied, 0, &pgtest.BootOptions{Conf: map[string]string{"archive_command": "true"}})
	twin.Exec(t, "INSERT INTO t SELECT -i, 'other' FROM generate_series(1, 70000) i")
	require.Greater(t, flushed(t, twin), end)
	var conflict *wal.ConflictError
	err := a.Receive(t.Context(), twin.DSN("postgres"), &wal.ReceiveOptions{FlushEvery: 10 * time.Millisecond})
	require.ErrorAs(t, err, &conflict)
}
