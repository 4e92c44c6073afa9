package pgfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// TestIncrementalFiles puts the files of a full and an incremental backup together, and finds those of the server.
func TestIncrementalFiles(t *testing.T) {
	t.Parallel()
	for _, major := range []int{17, 18} {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"summarize_wal": "on", "autovacuum": "off"}})
			c.Exec(t,
				"CREATE TABLESPACE away LOCATION '"+pgtest.Dir(t)+"'",
				"CREATE TABLE plain (id int PRIMARY KEY, note text) WITH (fillfactor = 50)",
				"INSERT INTO plain SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 20000) i",
				"CREATE TABLE moved TABLESPACE away AS SELECT * FROM plain",
				"CREATE TABLE shrinks AS SELECT * FROM plain",
				"CREATE TABLE still AS SELECT * FROM plain",
				"VACUUM",
			)
			conn, err := pgconn.Connect(t.Context(), c.DSN("postgres")+" replication=true")
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close(t.Context()) })
			full := readBackup(t, conn, false)
			c.Exec(t,
				"UPDATE plain SET note = '' WHERE id % 5000 = 0",
				"UPDATE moved SET note = 'x' WHERE id = 10000",
				"INSERT INTO plain SELECT i, repeat(md5(i::text), 3) FROM generate_series(20001, 30000) i",
				"DELETE FROM shrinks WHERE id > 1000",
				"VACUUM shrinks",
			)
			require.NoError(t, pgwire.UploadManifest(t.Context(), conn, bytes.NewReader(full["backup_manifest"])))
			changed := readBackup(t, conn, true)

			blocks := map[string]int{}
			for p, b := range changed {
				relation, ok := pgfile.IncrementalOf(p)
				if !ok {
					continue
				}
				parsed, ok := pgfile.ParseRelation(relation)
				require.True(t, ok)
				r := bytes.NewReader(b)
				i, err := pgfile.ReadIncremental(r, 8192, 131072)
				require.NoError(t, err, p)
				require.EqualValues(t, len(b), i.Size(8192), p)
				blocks[relation] = len(i.Blocks)
				if parsed.Fork == "vm" {
					continue // see pgfile.Incremental
				}
				got := make([]byte, int(i.Pages())*8192)
				copy(got[:int(i.Length)*8192], full[relation])
				for _, n := range i.Blocks {
					_, err := io.ReadFull(r, got[n*8192:][:8192])
					require.NoError(t, err)
				}
				want, err := os.ReadFile(filepath.Join(c.Data, relation))
				require.NoError(t, err)
				if !bytes.Equal(want, got) {
					require.Fail(t, "they differ", "%s, of %d and %d bytes", relation, len(want), len(got))
				}
			}
			path := func(table string) string {
				return pgtest.Value[string](t, c, "SELECT pg_relation_filepath($1::text::regclass)", table)
			}
			require.Positive(t, blocks[path("plain")])
			require.Equal(t, 1, blocks[path("moved")])
			require.Contains(t, blocks, path("still"))
			require.Zero(t, blocks[path("still")])
			for table, name := range map[string]string{"moved": "one", "still": "none"} {
				dir, file := filepath.Split(path(table))
				keepSeed(t, "incremental", fmt.Sprintf("pg%d-%s", major, name), changed[dir+"INCREMENTAL."+file])
			}
		})
	}
}

// readBackup takes a backup and returns its files by their paths.
func readBackup(t *testing.T, conn *pgconn.PgConn, incremental bool) map[string][]byte {
	t.Helper()
	b, err := pgwire.BaseBackup(t.Context(), conn, &pgwire.BackupOptions{Fast: true, Manifest: true, Incremental: incremental})
	require.NoError(t, err)
	defer b.Close()
	files := map[string][]byte{}
	for {
		m, err := b.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		p := m.Name
		if oid := b.Tablespaces[m.Tablespace].OID; oid != 0 {
			p = fmt.Sprintf("pg_tblspc/%d/%s", oid, m.Name)
		}
		files[p], err = io.ReadAll(b)
		require.NoError(t, err)
	}
}
