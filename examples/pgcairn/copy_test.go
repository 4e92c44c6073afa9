package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// TestRegionLost copies an encrypted repository to one of other keys, deletes it, and recovers from the copy, by another
// identity, all that was copied.
func TestRegionLost(t *testing.T) {
	h := newHost(t)
	h.writer().json(t, "init")
	identity, recipient, err := crypto.Generate()
	require.NoError(t, err)
	other := h.with("PGCAIRN_REPO=" + filepath.Join(h.dir, "other region"))
	other.repo = filepath.Join(h.dir, "other region")
	other.identity = filepath.Join(h.dir, "other.txt")
	require.NoError(t, os.WriteFile(other.identity, []byte(identity+"\n"), 0o644))
	other.with("PGCAIRN_RECIPIENTS="+recipient).json(t, "init")

	c := newCluster(t, h, nil)
	server := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	first := server.json(t, "backup", "--pgdata", c.Data)["id"]
	c.Exec(t, `create table precious as select i, md5(i::text) from generate_series(1, 5000) i`)
	copied := h.reader().json(t, "copy", other.repo, "--dest-recipient", recipient)
	requireKeys(t, copied, "backups", "present", "expired", "problems", "segments", "objects", "bytes", "duration_seconds",
		"source_requests", "requests")
	require.Equal(t, []any{first}, copied["backups"])

	second := server.json(t, "backup", "--pgdata", c.Data, "--type", "incr")["id"]
	c.Exec(t, `update precious set md5 = 'changed' where i % 7 = 0`)
	want := pgtest.Checksums(t, c) // which writes WAL, too: hint bits
	archiveAll(t, c)
	copied = h.reader().json(t, "copy", other.repo, "--dest-recipient", recipient, "--jobs", "3", "--rate", "1000000000")
	require.Equal(t, []any{second}, copied["backups"])
	require.Equal(t, []any{first}, copied["present"])

	h.reader().run(t, "copy", other.repo, "--dest-unencrypted").requireFailure(t, 1, "encrypted", "--dest-recipient")
	h.reader().run(t, "copy", filepath.Join(h.dir, "nowhere"), "--dest-recipient", recipient).requireFailure(t, 1, "no pgcairn repository", "init")
	h.reader().run(t, "copy", other.repo, "20000101T000000Z-000000", "--dest-recipient", recipient).requireFailure(t, 1, "20000101T000000Z-000000", "pgcairn list")
	c.Exec(t, `insert into precious values (0, 'after the last copy')`) // which is lost
	archiveAll(t, c)
	c.Stop(t)
	require.NoError(t, os.RemoveAll(h.repo))

	dir := filepath.Join(pgtest.Dir(t), "data")
	other.reader().json(t, "restore", dir)
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)))
}
