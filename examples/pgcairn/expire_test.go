package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// A repository sheds what the policy says, of a real server, and what is kept recovers to its end.
func TestExpire(t *testing.T) {
	h := newHost(t)
	h.writer().json(t, "init")
	c := newCluster(t, h, nil)
	server, reader := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres"), h.reader()
	var ids []string
	for _, kind := range []string{"full", "incr", "full", "incr"} {
		c.Exec(t, `create table if not exists t (i int, pad text)`, `insert into t select i, md5(i::text) from generate_series(1, 5000) i`)
		archiveAll(t, c)
		ids = append(ids, server.json(t, "backup", "--pgdata", c.Data, "--type", kind)["id"].(string))
	}
	c.Exec(t, `insert into t values (0, 'the last row')`)
	want := pgtest.Checksums(t, c)
	archiveAll(t, c)

	require.Equal(t, map[string]any{"id": ids[1], "pinned": true}, reader.json(t, "pin", ids[1]))
	require.Equal(t, true, reader.json(t, "show", ids[1])["pinned"])
	reader.run(t, "pin", "20000101T000000Z-000000").requireFailure(t, 1, "20000101T000000Z-000000", "pgcairn list")
	reader.run(t, "expire", "--keep-diff", "1").requireFailure(t, 2, "keep_differential", "")
	reader.run(t, "expire", "--window", "30 days").requireFailure(t, 2, "30d", "")

	verdicts := func(doc map[string]any, name string) (all []string) {
		for _, v := range doc[name].([]any) {
			requireKeys(t, v.(map[string]any), "id", "reasons")
			all = append(all, v.(map[string]any)["id"].(string))
		}
		return all
	}
	dry := reader.json(t, "expire", "--keep-full", "1", "--keep-wal", "1ms", "--dry-run")
	requireKeys(t, dry, "keep", "drop", "wal_floor", "freed_bytes", "dry_run", "delete", "refused")
	require.Equal(t, []string{ids[1], ids[2], ids[3]}, verdicts(dry, "keep"))
	require.Equal(t, ids[:1], verdicts(dry, "drop"))
	require.Len(t, reader.json(t, "list")["backups"], 4)
	require.Equal(t, true, dry["dry_run"])

	done := reader.json(t, "expire", "--keep-full", "1", "--keep-wal", "1ms")
	require.Equal(t, dry["freed_bytes"], done["freed_bytes"])
	require.Positive(t, done["freed_bytes"])
	require.Equal(t, []string{ids[1], ids[2], ids[3]}, verdicts(done, "keep"))
	require.Contains(t, reader.ok(t, "expire", "--keep-full", "1", "--keep-wal", "1ms"), "freed 0 B")

	// The pinned one has lost its full backup, and its later WAL, and stands by itself.
	early := filepath.Join(pgtest.Dir(t), "data")
	reader.ok(t, "restore", early, "--backup", ids[1], "--to-immediate")
	b := pgtest.Boot(t, early, 0, nil)
	require.Equal(t, int64(10000), pgtest.Value[int64](t, b, `select count(*) from t`))
	b.Stop(t)

	reader.ok(t, "unpin", ids[1])
	require.Equal(t, ids[:0:0], append([]string{}, verdicts(reader.json(t, "expire", "--keep-last", "2"), "keep")[2:]...))
	latest := filepath.Join(pgtest.Dir(t), "data")
	reader.ok(t, "restore", latest)
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, latest, 0, nil)))
}
