package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestRecoveryFetchesAhead recovers a server from a backup and more than 40 segments on two timelines, by commands that
// fetch the next segments with the one asked for, and by way of a program that does. All data must be there.
func TestRecoveryFetchesAhead(t *testing.T) {
	for _, major := range []int{13, 18} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			h := newHost(t)
			h.writer().ok(t, "init")
			c := pgtest.New(t, &pgtest.Options{
				Major: major, SegmentSize: 1 << 20, Env: h.writer().env,
				Conf: map[string]string{"archive_mode": "on", "archive_command": program + " wal push %p"},
			})
			h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--pgdata", c.Data)
			writeSegments(t, c, 25)
			// The old timeline ends in the middle of a segment, whose beginning the new one has as well.
			toNextTimeline(t, c)
			writeSegments(t, c, 25)
			want := pgtest.Checksums(t, c) // which writes WAL, too: hint bits
			archiveAll(t, c)

			socket := filepath.Join(h.dir, "socket")
			serving := h.reader().with("PGCAIRN_STATE_DIR="+filepath.Join(h.dir, "served")).command(t, "wal", "serve", socket, "--prefetch", "8")
			serving.Stderr = os.Stderr
			require.NoError(t, serving.Start())
			require.Eventually(t, func() bool {
				_, err := os.Stat(socket)
				return err == nil
			}, patience, pollEvery)
			for _, how := range []struct {
				name, command, state string
				env                  []string
			}{
				{"by itself", program + " wal fetch --prefetch 16 %f %p", "state", h.reader().env},
				{"served", program + " wal fetch %f %p", "served", append(append([]string{}, programEnv...), "PGCAIRN_SOCKET="+socket)},
			} {
				t.Run(how.name, func(t *testing.T) {
					dir := filepath.Join(pgtest.Dir(t), "data")
					h.reader().ok(t, "restore", dir)
					b := pgtest.Boot(t, dir, 0, &pgtest.BootOptions{Env: how.env, Conf: map[string]string{"restore_command": how.command}})
					require.Equal(t, want, pgtest.Checksums(t, b))
					pgtest.Amcheck(t, b)
					log := b.Log(t)
					for _, timeline := range []string{"00000001", "00000002"} {
						require.GreaterOrEqual(t, strings.Count(log, `restored log file "`+timeline), 20, "%s", log)
					}
					ahead, err := filepath.Glob(filepath.Join(h.dir, how.state, "*", "wal-*", "ahead"))
					require.NoError(t, err)
					require.Len(t, ahead, 1, "nothing was fetched ahead")
				})
			}
			require.NoError(t, serving.Process.Signal(syscall.SIGTERM))
			require.NoError(t, serving.Wait())
		})
	}
}

// TestRecoveryStopsAtAHole deletes a segment after a restore that is to fetch it. Recovery must not end there, as it does
// where the WAL ends, but fail; and go on when the segment is back. The path crosses timelines, where PostgreSQL asks for
// files that nobody has.
func TestRecoveryStopsAtAHole(t *testing.T) {
	for _, major := range []int{13, 18} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			h := newHost(t)
			h.writer().ok(t, "init")
			c := newCluster(t, h, &pgtest.Options{Major: major, SegmentSize: 1 << 20})
			h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--pgdata", c.Data)
			writeSegments(t, c, 5)
			lost := pgtest.Value[string](t, c, `select pg_walfile_name(pg_current_wal_lsn())`)
			writeSegments(t, c, 5)
			toNextTimeline(t, c)
			writeSegments(t, c, 5)
			want := pgtest.Checksums(t, c) // which writes WAL, too: hint bits
			archiveAll(t, c)

			dir := filepath.Join(pgtest.Dir(t), "data")
			h.reader().ok(t, "restore", dir, "--wal", "command")
			var file string
			require.NoError(t, filepath.WalkDir(filepath.Join(h.repo, "wal"), func(path string, _ os.DirEntry, err error) error {
				if filepath.Base(path) == lost {
					file = path
				}
				return err
			}))
			require.NoError(t, os.Rename(file, file+".away"))
			_, err := pgtest.TryBoot(t, dir, 0, nil)
			require.ErrorContains(t, err, "segment "+lost+" was there when this recovery was planned, and is gone")
			require.ErrorContains(t, err, "exit code 200")

			require.NoError(t, os.Rename(file+".away", file))
			require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)))
		})
	}
}

// toNextTimeline has a server go on as a standby does that is promoted.
func toNextTimeline(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Stop(t)
	require.NoError(t, os.WriteFile(filepath.Join(c.Data, "standby.signal"), nil, 0o644))
	pgtest.Own(t, c.Data)
	c.StartStandby(t)
	c.Exec(t, "select pg_promote()", "checkpoint")
}

// writeSegments has a server write so many segments of 1 MiB or more, of small transactions beside large ones.
func writeSegments(t *testing.T, c *pgtest.Cluster, n int) {
	t.Helper()
	load := pgtest.StartPgbench(t, c, nil)
	c.Exec(t, `create table if not exists bulk (i int primary key, pad text)`, fmt.Sprintf(`do $$ declare s pg_lsn := pg_current_wal_lsn(); begin
		while pg_current_wal_lsn() - s < %d * 1024 * 1024 loop
			insert into bulk select i, repeat(md5(i::text), 4) from generate_series(1, 2000) i
			on conflict (i) do update set pad = reverse(bulk.pad);
		end loop; end $$`, n))
	require.Positive(t, load.Stop(t))
}

// TestBacklogOfABrokenRepository: a server archives into a repository that is gone for a while. Once it is back, the
// archiver clears what has piled up, and every segment is in it as the server has it.
func TestBacklogOfABrokenRepository(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := pgtest.New(t, &pgtest.Options{
		SegmentSize: 1 << 20, Env: h.writer().env,
		Conf: map[string]string{
			"archive_mode": "on", "archive_command": program + " wal push %p",
			"wal_keep_size": "4GB", "max_wal_size": "4GB", // so that all can be compared
		},
	})
	writeSegments(t, c, 5)
	archiveAll(t, c)
	failures := `select failed_count from pg_stat_archiver`
	require.Zero(t, pgtest.Value[int64](t, c, failures))

	require.NoError(t, os.Rename(h.repo, h.repo+".away"))
	writeSegments(t, c, 80)
	require.Eventually(t, func() bool { return pgtest.Value[int64](t, c, failures) > 0 }, patience, pollEvery)
	ready, err := filepath.Glob(filepath.Join(c.Data, "pg_wal", "archive_status", "*.ready"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(ready), 80)

	require.NoError(t, os.Rename(h.repo+".away", h.repo))
	archiveAll(t, c)
	ready, err = filepath.Glob(filepath.Join(c.Data, "pg_wal", "archive_status", "*.ready"))
	require.NoError(t, err)
	require.Empty(t, ready)
	var doc struct {
		Timelines []struct {
			Segments int
			Gaps     []any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(h.reader().ok(t, "wal", "list", "--json")), &doc))
	require.Len(t, doc.Timelines, 1)
	require.Empty(t, doc.Timelines[0].Gaps)
	require.Greater(t, doc.Timelines[0].Segments, 85)
	require.Equal(t, doc.Timelines[0].Segments, requireSame(t, h.reader(), c))
}
