package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestFetchFromSeveral: whichever repository has the segment serves it, and 1 is the answer of all.
func TestFetchFromSeveral(t *testing.T) {
	h, name := newArchive(t)
	empty := newHost(t)
	dest, missing := filepath.Join(h.dir, "fetched"), "000000010000000000000009"
	gone := filepath.Join(h.dir, "not mounted")
	reader := h.reader().with("PGCAIRN_RECIPIENTS=" + h.recipient)
	reader.ok(t, "init", "--repo", empty.repo)

	for _, repos := range [][]string{{gone, h.repo}, {h.repo, gone}, {empty.repo, h.repo}} {
		out := reader.run(t, "wal", "fetch", name, dest, "--repo", repos[0], "--repo", repos[1])
		require.Zero(t, out.code, out.stderr)
		require.NoError(t, os.Remove(dest))
	}
	both := reader.with("PGCAIRN_REPOS=" + empty.repo + " " + h.repo)
	both.ok(t, "wal", "fetch", name, dest)
	both.run(t, "wal", "fetch", missing, dest).requireFailure(t, 1, "in none of 2 archives", "")
	both.run(t, "wal", "fetch", name, dest, "--repo", empty.repo).requireFailure(t, 1, "is not in the archive", "")
	out := both.run(t, "wal", "fetch", missing, dest, "--repo", gone, "--repo", h.repo, "--log-level", "error")
	out.requireFailure(t, 200, "1 of 2 archives cannot tell", "mounted")
	both.run(t, "wal", "fetch", name, dest, "--prefetch", "2").requireFailure(t, 200, "--prefetch takes one --repo", "")
	both.run(t, "wal", "serve", filepath.Join(h.dir, "s")).requireFailure(t, 2, "takes one --repo", "")
	both.run(t, "wal", "receive").requireFailure(t, 2, "takes one --repo", "")
	both.run(t, "wal", "fetch", name, dest, "--repo", h.repo, "--repo", h.repo).requireFailure(t, 200, "given twice", "")
	id := "20000101T000000Z-000000"
	for _, command := range [][]string{
		{"check"}, {"copy", empty.repo}, {"expire"}, {"key", "list"}, {"key", "rotate", "--new-key"}, {"pin", id}, {"status"}, {"unpin", id}, {"verify"},
	} {
		both.run(t, command...).requireFailure(t, 2, "takes one --repo", "")
	}
	out = both.run(t, "list", "--repo", gone, "--repo", h.repo)
	require.Zero(t, out.code, out.stderr)
	require.Contains(t, out.stderr, "trying the next")
}

// TestBackupToSeveral: of two repositories one is out of reach. The other has a backup all the same, and it is told.
func TestBackupToSeveral(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	server := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	gone := filepath.Join(h.dir, "not mounted")
	backup := []string{"backup", "--json", "--pgdata", c.Data, "--repo", gone, "--repo", h.repo}
	var ids []any
	for _, enough := range []bool{false, true} {
		args := backup
		if enough {
			args = append(args, "--enough", "1")
		}
		out := server.run(t, args...)
		require.Equal(t, map[bool]int{false: 1, true: 0}[enough], out.code, out.stderr)
		require.Contains(t, out.stderr, gone)
		var doc map[string]any
		require.NoError(t, json.Unmarshal([]byte(out.stdout), &doc))
		ids = append(ids, doc["id"])
		each := doc["repositories"].([]any)
		require.Contains(t, each[0], "error")
		require.Equal(t, map[string]any{"repo": h.repo, "id": doc["id"]}, each[1])
	}
	var listed []any
	for _, b := range h.reader().json(t, "list")["backups"].([]any) {
		listed = append(listed, b.(map[string]any)["id"])
	}
	require.Equal(t, ids, listed)
	server.run(t, append(backup, "--source", "replication")...).requireFailure(t, 2, "feeds one --repo", "")
	server.run(t, "backup", "--pgdata", c.Data, "--enough", "2").requireFailure(t, 2, "--enough", "")
}

// TestOutagesOfSeveral has a server archive to two repositories, of which now the one and now the other is out of reach
// for a while. Once healed, each alone recovers the server to the same end.
func TestOutagesOfSeveral(t *testing.T) {
	for _, major := range []int{13, 18} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			h := newHost(t)
			repos := []string{h.repo, filepath.Join(h.dir, "second")}
			both := h.with("PGCAIRN_REPOS=" + strings.Join(repos, " "))
			both.writer().ok(t, "init")
			c := pgtest.New(t, &pgtest.Options{
				Major: major, SegmentSize: 1 << 20, Env: both.writer().env, Conf: map[string]string{
					"archive_mode": "on", "archive_command": program + " wal push --durable 1 --lag 30s %p", "min_wal_size": "2MB", "max_wal_size": "4MB",
				},
			})
			for _, r := range repos {
				h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").ok(t, "backup", "--repo", r, "--pgdata", c.Data)
			}
			gaps := func(r string) (n int) {
				for _, timeline := range both.writer().json(t, "wal", "list", "--repo", r)["timelines"].([]any) {
					n += len(timeline.(map[string]any)["gaps"].([]any))
				}
				return n
			}
			writeSegments(t, c, 3)
			archiveAll(t, c)
			for i, outage := range []struct{ begin, end func(repo string) error }{
				{
					func(r string) error { return os.Rename(r, r+".unmounted") },
					func(r string) error { return os.Rename(r+".unmounted", r) },
				},
				{
					func(r string) error { return os.Chmod(filepath.Join(r, "wal"), 0) },
					func(r string) error { return os.Chmod(filepath.Join(r, "wal"), 0o755) },
				},
			} {
				r := repos[i]
				require.NoError(t, outage.begin(r))
				writeSegments(t, c, 5)
				archiveAll(t, c)
				c.Exec(t, "checkpoint") // what is archived may go
				require.NoError(t, outage.end(r))
				writeSegments(t, c, 2)
				archiveAll(t, c)
				healed := both.writer().with("PGCAIRN_IDENTITY="+h.identity).json(t, "wal", "heal")["repositories"].([]any)
				require.Equal(t, healed[i].(map[string]any)["owed"], healed[i].(map[string]any)["brought"])
				for _, r := range repos {
					require.Zero(t, gaps(r))
				}
			}
			want := pgtest.Checksums(t, c)
			c.Stop(t)
			for _, r := range repos {
				dir := filepath.Join(pgtest.Dir(t), "data")
				h.reader().ok(t, "restore", "--repo", r, dir)
				command := program + " wal fetch --repo " + r + " %f %p"
				b := pgtest.Boot(t, dir, 0, &pgtest.BootOptions{Env: h.reader().env, Conf: map[string]string{"restore_command": command}})
				require.Equal(t, want, pgtest.Checksums(t, b))
			}
		})
	}
}
