package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// newBacklog makes a cluster with segments of 1 MiB and an archiver that fails while a gate is closed, fills 70 segments,
// and returns how to open the gate. What each archive_command prints goes to a file.
func newBacklog(t *testing.T, h *host, major int, command string) (c *pgtest.Cluster, calls string, open func()) {
	t.Helper()
	gate, calls := filepath.Join(h.dir, "gate"), filepath.Join(h.dir, "calls")
	c = pgtest.New(t, &pgtest.Options{
		Major: major, SegmentSize: 1 << 20, Env: h.env,
		Conf: map[string]string{"archive_mode": "on", "archive_command": fmt.Sprintf("test -e %s && %s >> %s", gate, command, calls)},
	})
	c.Exec(t, `create table t (i int, pad text)`, `do $$ declare s pg_lsn := pg_current_wal_lsn(); begin
		while pg_current_wal_lsn() - s < 70 * 1024 * 1024 loop
			insert into t select i, repeat(md5(i::text), 8) from generate_series(1, 2000) i;
		end loop; end $$`)
	return c, calls, func() {
		require.NoError(t, os.WriteFile(gate, nil, 0o644))
		pgtest.Own(t, gate)
	}
}

// requireSame compares what is archived with what the server has in its pg_wal.
func requireSame(t *testing.T, reader *host, c *pgtest.Cluster) (segments int) {
	t.Helper()
	done, err := filepath.Glob(filepath.Join(c.Data, "pg_wal", "archive_status", "*.done"))
	require.NoError(t, err)
	for _, path := range done {
		name := strings.TrimSuffix(filepath.Base(path), ".done")
		want, err := os.ReadFile(filepath.Join(c.Data, "pg_wal", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // recycled since
		}
		require.NoError(t, err)
		dest := filepath.Join(reader.dir, "fetched")
		reader.ok(t, "wal", "fetch", name, dest, "--prefetch", "16")
		got, err := os.ReadFile(dest)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), name)
		require.NoError(t, os.Remove(dest))
		segments++
	}
	return segments
}

// TestBacklogOfAServer is cleared by one call of archive_command; what is left, by the next.
func TestBacklogOfAServer(t *testing.T) {
	for _, major := range []int{13, 18} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			h := newHost(t)
			h.writer().ok(t, "init")
			c, calls, open := newBacklog(t, h.writer(), major, program+" wal push %p --json")
			open()
			archiveAll(t, c)
			text, err := os.Open(calls)
			require.NoError(t, err)
			defer text.Close()
			ahead, most := 0, 0
			for d := json.NewDecoder(text); ; {
				var doc pushedDoc
				if err := d.Decode(&doc); errors.Is(err, io.EOF) {
					break
				}
				ahead, most = ahead+len(doc.Ahead), max(most, len(doc.Ahead))
			}
			// A call begins no more neighbours after ten seconds, so a slow machine takes some more calls.
			require.Greater(t, most, 8, "one call archives up to 64 besides its own")
			require.LessOrEqual(t, most, 64)
			require.GreaterOrEqual(t, ahead, most)
			require.GreaterOrEqual(t, requireSame(t, h.reader(), c), 64)
			marks, err := filepath.Glob(filepath.Join(h.dir, "state", "*", "wal-*", "pushed", "*"))
			require.NoError(t, err)
			require.Empty(t, marks)
		})
	}
}

// TestServedBacklogOfAServer has the server's commands go by way of a program that serves them.
func TestServedBacklogOfAServer(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	socket := filepath.Join(h.dir, "socket")
	thin := &host{dir: h.dir, env: append(append([]string{}, programEnv...), "PGCAIRN_SOCKET="+socket)}
	c, _, open := newBacklog(t, thin, 17, program+" wal push %p")
	serving := h.reader().with("PGCAIRN_RECIPIENTS="+h.recipient).command(t, "wal", "serve", socket, "--pgdata", c.Data, "--prefetch", "8")
	serving.Stderr = os.Stderr
	require.NoError(t, serving.Start())
	require.Eventually(t, func() bool {
		info, err := os.Stat(socket)
		return err == nil && info.Mode().Perm() == 0o600
	}, patience, pollEvery)
	open()
	archiveAll(t, c)
	require.GreaterOrEqual(t, requireSame(t, thin, c), 64)

	dest := filepath.Join(h.dir, "x")
	thin.run(t, "wal", "fetch", "0000000100000000000000F0", dest).requireFailure(t, 1, "is not in the archive", "")
	thin.run(t, "wal", "fetch", "passwd", dest).requireFailure(t, 200, "not the name of a WAL file", "%f %p")
	thin.run(t, "wal", "push", writePath(t, h.dir, 2)).requireFailure(t, 1, "system identifier", "its own")
	require.NoError(t, serving.Process.Signal(syscall.SIGTERM))
	require.NoError(t, serving.Wait())
	require.NoFileExists(t, socket)

	// Nobody serves any more: that is no answer.
	thin.run(t, "wal", "fetch", "0000000100000000000000F0", dest).requireFailure(t, 200, socket, "PGCAIRN_SOCKET")
	thin.run(t, "wal", "push", writePath(t, h.dir, 2)).requireFailure(t, 1, socket, "PGCAIRN_SOCKET")
	require.NoFileExists(t, dest)

	// A socket that was left, as by a program that was killed, is replaced; one that is in use is not.
	left := h.reader().command(t, "wal", "serve", socket)
	require.NoError(t, left.Start())
	require.Eventually(t, func() bool {
		return thin.run(t, "wal", "fetch", "0000000100000000000000F0", dest).code == 1
	}, patience, pollEvery)
	h.reader().run(t, "wal", "serve", socket).requireFailure(t, 1, "address already in use", "")
	require.NoError(t, left.Process.Kill())
	require.Error(t, left.Wait())
	require.FileExists(t, socket)
	again := h.reader().command(t, "wal", "serve", socket)
	require.NoError(t, again.Start())
	require.Eventually(t, func() bool {
		return thin.run(t, "wal", "fetch", "0000000100000000000000F0", dest).code == 1
	}, patience, pollEvery)
	require.NoError(t, again.Process.Signal(syscall.SIGTERM))
	require.NoError(t, again.Wait())
}

// writePath writes a segment of a cluster of no server and returns its path.
func writePath(t *testing.T, dir string, number uint64) string {
	t.Helper()
	return filepath.Join(dir, writeSegment(t, dir, number, 7))
}

// TestThinClientIsThin: a call by way of a socket takes less than 10 ms of CPU.
func TestThinClientIsThin(t *testing.T) {
	h := newHost(t).with()
	h.ok(t, "init")
	socket := filepath.Join(h.dir, "socket")
	serving := h.command(t, "wal", "serve", socket)
	require.NoError(t, serving.Start())
	t.Cleanup(func() {
		_ = serving.Process.Signal(syscall.SIGTERM)
		_ = serving.Wait()
	})
	path := writePath(t, h.dir, 1)
	thin := &host{dir: h.dir, env: append(append([]string{}, programEnv...), "PGCAIRN_SOCKET="+socket)}
	least := time.Hour
	for range 20 {
		cmd := thin.command(t, "wal", "push", path)
		if cmd.Run() != nil {
			time.Sleep(pollEvery) // not yet listening
			continue
		}
		least = min(least, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	t.Logf("%v of CPU", least)
	if len(buildFlags) == 0 {
		require.Less(t, least, 10*time.Millisecond)
	}
}
