package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

const (
	patience  = time.Minute
	pollEvery = 20 * time.Millisecond
)

// TestRoad walks the main road with the program alone: archive_command, an encrypted backup by a host that holds
// recipients only, and recovery to a second on one that holds the identity, by restore_command and with staged WAL.
func TestRoad(t *testing.T) {
	// The program has to quote all of these for a shell that PostgreSQL runs.
	h := newHost(t)
	h.repo = filepath.Join(h.dir, `it's 100% "here" $HOME \ %p`)
	h = h.with("PGCAIRN_REPO=" + h.repo)
	odd := filepath.Join(h.dir, "identity of 'me' %f.txt")
	require.NoError(t, os.Rename(h.identity, odd))
	h.identity = odd

	first := h.writer().json(t, "init")
	require.Equal(t, true, first["encrypted"])
	require.Equal(t, first, h.writer().json(t, "init"))

	c := newCluster(t, h, nil)
	space := pgtest.Dir(t)
	c.Exec(t, `create tablespace aside location '`+space+`'`, `create table there (i int) tablespace aside`,
		`insert into there select generate_series(1, 1000)`)
	server := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")

	check := server.json(t, "check")
	require.Equal(t, true, check["ok"])
	require.Len(t, check["steps"], 7)

	b := server.json(t, "backup", "--pgdata", c.Data, "--label", "why=test", "--label", "odd=a=b;c", "--compression", "s2")
	requireKeys(t, b, append(summaryKeys, "duration_seconds", "requests")...)
	require.Equal(t, "base", b["kind"])
	require.Equal(t, "full", b["type"])
	require.Nil(t, b["parent"])
	require.Equal(t, map[string]any{"why": "test", "odd": "a=b;c"}, b["labels"])
	require.Equal(t, pgtest.Value[string](t, c, `select system_identifier::text from pg_control_system()`), b["system_id"])
	requireKeys(t, b["requests"].(map[string]any), "put", "get", "list", "delete")
	requireUTC(t, b["started_at"])
	requireUTC(t, b["stopped_at"])
	id := b["id"].(string)

	reader := h.reader()
	list := reader.json(t, "list")["backups"].([]any)
	require.Len(t, list, 1)
	requireKeys(t, list[0].(map[string]any), summaryKeys...)
	shown := reader.json(t, "show", id)
	require.Equal(t, []any{}, shown["bad_page_list"])
	delete(shown, "bad_page_list")
	require.Equal(t, list[0], any(shown))
	for _, key := range summaryKeys {
		require.Equal(t, b[key], list[0].(map[string]any)[key], key)
	}

	c.Exec(t, `create table precious as select i, md5(i::text) from generate_series(1, 5000) i`)
	want := pgtest.Checksums(t, c)
	at := pgtest.Value[string](t, c, `select clock_timestamp()::text`)
	c.Exec(t, `select pg_sleep(0.01)`, `drop table precious`, `create table later ()`)
	archiveAll(t, c)

	// Listing takes no identity.
	wal := server.json(t, "wal", "list")["timelines"].([]any)
	require.Len(t, wal, 1)
	timeline := wal[0].(map[string]any)
	requireKeys(t, timeline, "timeline", "first", "last", "segments", "bytes", "gaps", "ranges")
	require.Equal(t, "000000010000000000000001", timeline["first"])
	require.Empty(t, timeline["gaps"])

	// A host that cannot read builds on what it has written all the same.
	incr := server.json(t, "backup", "--pgdata", c.Data, "--type", "auto")
	require.Equal(t, "incremental", incr["type"])
	require.Equal(t, id, incr["parent"])
	require.Equal(t, "wal-index", incr["method"], incr["reason"])
	require.Less(t, incr["read_bytes"], b["read_bytes"].(float64)/2)
	require.Contains(t, reader.ok(t, "show", incr["id"].(string)), "wal-index")
	alone := filepath.Join(pgtest.Dir(t), "data")
	reader.ok(t, "restore", alone, "--backup", incr["id"].(string), "--to-immediate", "--tablespace", "aside="+filepath.Join(pgtest.Dir(t), "aside"))
	latest := pgtest.Checksums(t, c)
	require.Equal(t, latest, pgtest.Checksums(t, pgtest.Boot(t, alone, 0, nil)))

	windows := reader.json(t, "windows")
	require.Empty(t, windows["gaps"])
	require.Len(t, windows["windows"], 1)
	window := windows["windows"].([]any)[0].(map[string]any)
	requireKeys(t, window, "timeline", "from_time", "to_time", "from_lsn", "to_lsn", "backup")
	require.Equal(t, id, window["backup"])
	require.Equal(t, b["stop_lsn"], window["from_lsn"])
	require.Equal(t, b["stopped_at"], window["from_time"])
	requireUTC(t, window["to_time"])
	held := reader.json(t, "wal", "list")["timelines"].([]any)[0].(map[string]any)["ranges"].([]any)[0].(map[string]any)
	require.Equal(t, held["last_commit"], window["to_time"])

	p := reader.json(t, "plan", "--to-time", at)
	requireKeys(t, p, planKeys...)
	require.Equal(t, id, p["backup"])
	require.Equal(t, true, p["reachable"])
	requireKeys(t, p["nearest"].(map[string]any), "before", "after")
	require.NotEmpty(t, p["wal"])
	requireKeys(t, p["wal"].([]any)[0].(map[string]any), "timeline", "from", "to")

	for _, how := range []string{"command", "staged"} {
		t.Run(how, func(t *testing.T) {
			dir, aside := filepath.Join(pgtest.Dir(t), "data"), filepath.Join(pgtest.Dir(t), "aside")
			args := []string{"restore", dir, "--to-time", at, "--wal", how, "--tablespace", "aside=" + aside}
			dry := reader.json(t, append(args, "--dry-run")...)
			requireKeys(t, dry, append(planKeys, "directory", "restored_bytes", "reused_bytes", "duration_seconds")...)
			require.NoDirExists(t, dir)

			done := reader.json(t, args...)
			requireKeys(t, done, append(planKeys, "directory", "restored_bytes", "reused_bytes", "duration_seconds")...)
			require.Equal(t, dir, done["directory"])
			require.NotZero(t, done["restored_bytes"])
			for _, key := range planKeys {
				require.Equal(t, p[key], done[key], key)
			}
			if how == "staged" {
				require.NoError(t, os.Rename(h.repo, h.repo+".away"))
				defer func() { require.NoError(t, os.Rename(h.repo+".away", h.repo)) }()
			}
			// The server has no variables of ours: all that is needed stands in restore_command.
			require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)))
		})
	}
	t.Run("words for people", func(t *testing.T) {
		require.Contains(t, reader.ok(t, "list"), id)
		require.Contains(t, reader.ok(t, "show", id), "why=test")
		require.Contains(t, reader.ok(t, "wal", "list"), "timeline 1")
		require.Contains(t, reader.ok(t, "windows"), id)
		require.Contains(t, reader.ok(t, "plan"), "end of the archive")
		require.Contains(t, server.ok(t, "check"), "ok")
		require.Contains(t, server.ok(t, "backup", "--pgdata", c.Data), "PostgreSQL")
		require.Contains(t, reader.ok(t, "restore", filepath.Join(h.dir, "new"), "--to-immediate", "--tablespace",
			"aside="+filepath.Join(h.dir, "newer")), "restored")
	})
}

var (
	summaryKeys = strings.Fields(`id kind type parent system_id pg_version timeline start_lsn stop_lsn started_at stopped_at
		cluster_bytes read_bytes stored_bytes reused_bytes files bad_pages pinned labels`)
	planKeys = strings.Fields(`backup target timeline wal wal_bytes restore_bytes requests reachable nearest warnings`)
)

func requireKeys(t *testing.T, doc map[string]any, keys ...string) {
	t.Helper()
	for _, k := range keys {
		require.Contains(t, doc, k)
	}
}

func requireUTC(t *testing.T, v any) {
	t.Helper()
	text := v.(string)
	_, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(text, "Z"), text)
}
