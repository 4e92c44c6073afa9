package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

func TestPlanAndRestoreRefuse(t *testing.T) {
	h := newHost(t)
	h.writer().ok(t, "init")
	c := newCluster(t, h, nil)
	c.Exec(t, `create tablespace aside location '`+pgtest.Dir(t)+`'`, `create database elsewhere`)
	near := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	older := near.json(t, "backup", "--pgdata", c.Data)["id"].(string)
	newer := near.json(t, "backup", "--pgdata", c.Data)["id"].(string)
	xid := pgtest.Value[int64](t, c, `select txid_current()`)
	at := pgtest.Value[time.Time](t, c, `select clock_timestamp()`).In(time.FixedZone("", 2*3600))
	c.Exec(t, `select pg_create_restore_point('before the party')`, `create table party ()`)
	archiveAll(t, c)
	reader := h.reader()
	occupied := pgtest.Dir(t)
	require.NoError(t, os.WriteFile(filepath.Join(occupied, "x"), nil, 0o644))
	fresh := filepath.Join(h.dir, "fresh")
	aside := "aside=" + filepath.Join(h.dir, "aside")

	for _, w := range []struct {
		name    string
		args    []string
		problem string
		hint    string
	}{
		{"a directory that is not empty", []string{"restore", occupied, "--tablespace", aside}, "is not empty", "choose another directory"},
		{"a file in the place", []string{"restore", filepath.Join(occupied, "x"), "--tablespace", aside}, "not a directory", ""},
		{"a tablespace without a place", []string{"restore", fresh}, `tablespace "aside"`, "--tablespace NAME=DIR"},
		{"a tablespace that is not there", []string{"restore", fresh, "--tablespace", aside, "--tablespace", "more=/x"}, `no tablespace "more"`, "--tablespace"},
		{"a tablespace that is not empty", []string{"restore", fresh, "--tablespace", "aside=" + occupied}, "is not empty", "choose another directory"},
		{"a database that is not there", []string{"restore", fresh, "--tablespace", aside, "--only-database", "kept"}, `no database "kept", only elsewhere, postgres, template0, template1`, "--only-database"},
		{"a pg_wal within", []string{"restore", fresh, "--tablespace", aside, "--waldir", filepath.Join(fresh, "wal")}, "pg_wal cannot go to", "--waldir"},
		{"a restore point with too long a name", []string{"plan", "--to-name", strings.Repeat("x", 64)}, "63 bytes", ""},
	} {
		t.Run(w.name, func(t *testing.T) {
			reader.run(t, w.args...).requireFailure(t, 1, w.problem, w.hint)
			require.NoFileExists(t, filepath.Join(fresh, "global", "pg_control"))
		})
	}

	for _, w := range []struct {
		name   string
		args   []string
		reason string
	}{
		{"a time before all backups", []string{"plan", "--to-time", "2001-01-01T00:00:00Z"}, "every backup ended after the target"},
		{"a position beyond the archive", []string{"plan", "--to-lsn", "FFFF/0"}, "the WAL ends before it: it is archived up to"},
		{"a time after all commits", []string{"plan", "--to-time", "2096-11-21 12:15:30.5+02"}, "no transaction ended after it"},
		{"a transaction that never was", []string{"plan", "--to-xid", "8000"}, "no such transaction ended"},
		{"a restore point that never was", []string{"plan", "--to-name", "after the party"}, "there is no restore point of that name"},
		{"a timeline that never was", []string{"plan", "--timeline", "0x10"}, "history of timeline 16"},
		{"no such backup", []string{"plan", "--backup", "20200101T000000Z-000000"}, "there is no backup"},
		{"a restore", []string{"restore", fresh, "--to-time", "2001-01-01 00:00:00+00"}, "every backup ended after the target"},
	} {
		t.Run(w.name, func(t *testing.T) {
			reader.run(t, w.args...).requireFailure(t, 1, w.reason, "pgcairn list")
			out := reader.run(t, append(w.args, "--json")...)
			doc := parseJSON(t, out.stdout)
			require.Equal(t, false, doc["reachable"])
			require.Contains(t, doc["reason"], w.reason)
			requireKeys(t, doc, "target", "wal", "wal_bytes", "restore_bytes", "requests", "nearest", "warnings")
			out.stdout = ""
			out.requireFailure(t, 1, w.reason, "pgcairn list")
		})
	}

	for _, w := range []struct {
		name   string
		args   []string
		backup string
		target map[string]any
	}{
		{"latest", nil, newer, map[string]any{"kind": "latest"}},
		{"immediate", []string{"--to-immediate"}, newer, map[string]any{"kind": "immediate"}},
		{"a forced backup", []string{"--backup", older, "--to-immediate"}, older, map[string]any{"kind": "immediate"}},
		{"current timeline", []string{"--timeline", "current"}, newer, map[string]any{"kind": "latest"}},
		{"timeline by number", []string{"--timeline", "1"}, newer, map[string]any{"kind": "latest"}},
		{"a transaction", []string{"--to-xid", strconv.FormatInt(xid, 10), "--exclusive"}, newer, map[string]any{"kind": "xid", "xid": float64(xid), "exclusive": true}},
		{"a restore point", []string{"--to-name", "before the party"}, newer, map[string]any{"kind": "name", "name": "before the party"}},
		{"another zone", []string{"--to-time", at.Format("2006-01-02 15:04:05.999999-07")}, newer, map[string]any{"kind": "time", "time": at.UTC().Format("2006-01-02T15:04:05.999999Z")}},
	} {
		t.Run(w.name, func(t *testing.T) {
			p := reader.json(t, append([]string{"plan"}, w.args...)...)
			require.Equal(t, w.backup, p["backup"])
			require.Equal(t, w.target, p["target"])
			require.EqualValues(t, 1, p["timeline"])
		})
	}

	t.Run("action", func(t *testing.T) {
		dir := filepath.Join(h.dir, "paused")
		reader.ok(t, "restore", dir, "--to-immediate", "--action", "pause", "--tablespace", aside)
		conf, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
		require.NoError(t, err)
		require.Contains(t, string(conf), "recovery_target_action = 'pause'")
	})

	t.Run("a standby with pg_wal and tablespaces where they are wanted", func(t *testing.T) {
		dir, wal := filepath.Join(h.dir, "standby"), filepath.Join(h.dir, "wal")
		reader.with("PGCAIRN_SLOT=receiver").ok(t, "restore", dir, "--to-immediate", "--waldir", wal, "--tablespaces-in-place",
			"--standby", "--primary-conninfo", "host=p", "--primary-slot", "follower")
		conf, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
		require.NoError(t, err)
		require.Contains(t, string(conf), "primary_conninfo = 'host=p'\nprimary_slot_name = 'follower'\n")
		require.FileExists(t, filepath.Join(dir, "standby.signal"))
		link, err := os.Readlink(filepath.Join(dir, "pg_wal"))
		require.NoError(t, err)
		require.Equal(t, wal, link)
		oid := pgtest.Value[string](t, c, `select oid::text from pg_tablespace where spcname = 'aside'`)
		info, err := os.Lstat(filepath.Join(dir, "pg_tblspc", oid))
		require.NoError(t, err)
		require.True(t, info.IsDir())
	})

	t.Run("one database", func(t *testing.T) {
		words := reader.ok(t, "restore", filepath.Join(h.dir, "one"), "--to-immediate", "--tablespaces-in-place", "--only-database", "postgres")
		require.Contains(t, words, "warning: drop the databases that are not restored: elsewhere (base/")
	})

	t.Run("delta", func(t *testing.T) {
		dir := filepath.Join(h.dir, "again")
		args := []string{"restore", dir, "--to-immediate", "--tablespace", "aside=" + filepath.Join(h.dir, "again-aside")}
		first := reader.json(t, args...)
		require.Zero(t, first["reused_bytes"])
		require.NoError(t, os.WriteFile(filepath.Join(dir, "stray"), []byte("x"), 0o600))
		reader.run(t, args...).requireFailure(t, 1, "is not empty", "--delta")
		second := reader.json(t, append(args, "--delta")...)
		require.Positive(t, second["reused_bytes"])
		sum := second["restored_bytes"].(float64) + second["reused_bytes"].(float64)
		require.EqualValues(t, first["restored_bytes"], int64(sum))
		require.NoFileExists(t, filepath.Join(dir, "stray"))

		require.NoError(t, os.Remove(filepath.Join(dir, "PG_VERSION")))
		reader.run(t, append(args, "--delta")...).requireFailure(t, 1, "no data directory", "--overwrite")
		require.Contains(t, reader.ok(t, append(args, "--delta", "--overwrite")...), "right already")
		running := pgtest.Boot(t, dir, 0, nil)
		reader.run(t, append(args, "--delta", "--overwrite")...).requireFailure(t, 1, "a server runs in", "stop it")
		running.Stop(t)
	})

	t.Run("a damaged manifest", func(t *testing.T) {
		flip(t, filepath.Join(h.repo, "backups", newer))
		out := reader.run(t, "list", "--json")
		list := parseJSON(t, out.stdout)["backups"].([]any)
		require.Len(t, list, 1)
		require.Equal(t, older, list[0].(map[string]any)["id"])
		out.stdout = ""
		out.requireFailure(t, 1, "corrupt object backups/"+newer, "damaged")
		reader.run(t, "show", newer).requireFailure(t, 1, "corrupt object backups/"+newer, "damaged")
		require.Equal(t, older, reader.json(t, "plan")["backup"])
	})
}
