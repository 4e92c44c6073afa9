package backup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
)

// goldenLayout is golden with manifests of layout 2: of a full backup, a differential one and an incremental one, as
// goldenStages takes them. repo/FORMAT.md shows the plain ones.
const goldenLayout = "testdata/golden-layout2"

// goldenTypes are the backups in it, in their order. Their manifests' texts are in files of these names.
func goldenTypes() []backup.Type {
	return []backup.Type{backup.Full, backup.Differential, backup.Incremental}
}

// goldenStages has a cluster come to where each of the backups is taken. It knows all that a manifest can tell.
func goldenStages(t *testing.T, take func(c *backuptest.Cluster, kind backup.Type)) {
	t.Helper()
	const table, index, there = "base/5/16384", "base/5/16390", "pg_tblspc/16385/PG_18_202600000/5/16400"
	// Before the first backup begins, so that a page's LSN tells what has changed since.
	pages := func(first uint32, n int, text string) []byte { return backuptest.Pages(first, n, 0x100000, text) }
	names := &backup.Catalog{
		Version:  "PostgreSQL 18.0, made for a test",
		Settings: map[string]string{"max_connections": "100", "wal_level": "replica"},
		Databases: []backup.Database{
			{OID: 1, Name: "template1", Tablespace: 1663}, {OID: 5, Name: "postgres", Tablespace: 1663},
		},
		Relations: []backup.Relation{
			{Database: 0, OID: 1262, Schema: "pg_catalog", Name: "pg_database", Kind: "r", Tablespace: 1664, Filenode: 1262},
			{Database: 5, OID: 16384, Schema: "public", Name: "cairns", Kind: "r", Tablespace: 1663, Filenode: 16384},
			{Database: 5, OID: 16390, Schema: "public", Name: "cairns_pkey", Kind: "i", Tablespace: 1663, Filenode: 16390, Of: 16384},
			{Database: 5, OID: 16400, Schema: "Far away", Name: "Käse", Kind: "r", Tablespace: 16385, Filenode: 16400},
		},
	}
	bad := func(content []byte, block int) []byte {
		content[(block+1)*8192-1] ^= 1
		return content
	}
	c := backuptest.New(&backuptest.Options{
		Tablespaces: []backup.Tablespace{{OID: 16385, Name: "fast", Location: "/mnt/fast"}},
		Catalog:     names,
		Files: fstest.MapFS{
			"PG_VERSION":      {Data: []byte("18\n")},
			"base/5/16384":    {Data: append(bad(pages(0, 3, "a table"), 1), make([]byte, 8192)...)}, // the last page is new
			"base/5/16390":    {Data: bad(pages(0, 2, "an index"), 0)},
			"base/5/16395":    {},
			"global/1262":     {Data: pages(0, 1, "databases")},
			there:             {Data: pages(0, 2, "a table elsewhere")},
			"postgresql.conf": {Data: []byte("port = 5432\n")},
		},
	})
	change := func(path string, block uint32, text string) {
		have, err := c.Read(path)
		require.NoError(t, err)
		have = append(have, make([]byte, max(0, int(block+1)*8192-len(have)))...)
		copy(have[block*8192:], backuptest.Pages(block, 1, uint64(c.LSN()), text))
		c.Write(path, have)
	}
	take(c, backup.Full)

	// A page within a frame changes, one of its files is gone, and a bad page is written anew; of another frame,
	// nothing is needed any more.
	change(table, 1, "changed")
	c.Remove(there)
	names.Relations = names.Relations[:3]
	c.Write("PG_VERSION", []byte("18.0\n"))
	c.Write("postgresql.conf", []byte("port = 5433\n"))
	take(c, backup.Differential)

	// The same file grows, and another is cut off.
	change(table, 0, "changed again")
	change(table, 4, "grown")
	have, err := c.Read(index)
	require.NoError(t, err)
	c.Write(index, have[:8192])
	take(c, backup.Incremental)
}

// takeGolden takes the backups into a repository, the same each time as long as the code is.
func takeGolden(t *testing.T, store repo.Store, name string, taken func(m *backup.Manifest, c *backuptest.Cluster)) *repo.Repo {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 2)
	r := newRepo(t, store, goldenCipher(t, name))
	goldenStages(t, func(c *backuptest.Cluster, kind backup.Type) {
		// Not compressed, so that it does not matter what a library makes of the pages.
		m, err := backup.Take(t.Context(), r, c, &backup.Options{
			Type: kind, Method: backup.ByLSN, Jobs: 1, Compression: repo.Uncompressed, Labels: map[string]string{"golden": name},
		})
		require.NoError(t, err)
		require.Equal(t, kind, m.Type)
		taken(m, c)
	})
	return r
}

// goldenText is the text of a golden manifest.
func goldenText(t testing.TB, name string, kind backup.Type) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldenLayout, name+"."+string(kind)+".jsonl"))
	require.NoError(t, err)
	return text
}

// What was written once of layout 2 can be read, listed and restored for ever.
func TestGoldenLayout(t *testing.T) {
	for _, name := range []string{"plain", "encrypted"} {
		t.Run(name, func(t *testing.T) {
			if *update {
				writeGoldenLayout(t, name)
			}
			r := openGolden(t, goldenLayout, name)
			all := requireSound(t, r)
			require.Len(t, all, 3)
			goldenStages(t, func(c *backuptest.Cluster, kind backup.Type) {
				i := slices.Index(goldenTypes(), kind)
				m := requireGolden(t, r, all[i].ID, goldenText(t, name, kind))
				require.Equal(t, kind, m.Type)
				p, err := restore.Prepare(t.Context(), r, restore.Immediate(), &restore.PlanOptions{Backup: m.ID})
				require.NoError(t, err)
				dir := filepath.Join(t.TempDir(), "data")
				_, err = p.Run(t.Context(), r, dir, &restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(t.TempDir(), "fast")}})
				require.NoError(t, err)
				require.NoError(t, c.Compare(dir))
				advance(t, c)
			})
		})
	}
}

// advance has the WAL of a cluster go on as a backup would.
func advance(t *testing.T, c *backuptest.Cluster) {
	t.Helper()
	s, err := c.Begin(t.Context(), backup.BeginOptions{})
	require.NoError(t, err)
	_, err = s.Stop(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// Today's code makes the same of the same cluster, so that a change is noticed where it is made. IDs are random; what a
// pack is besides its frames is repo's.
func TestGoldenLayoutIsWritten(t *testing.T) {
	for _, name := range []string{"plain", "encrypted"} {
		t.Run(name, func(t *testing.T) {
			golden := openGolden(t, goldenLayout, name)
			all, err := backup.List(t.Context(), golden)
			require.NoError(t, err)
			sums := regexp.MustCompile(`,"sum":"[0-9a-f]{32}"`)
			var ids []string // of the golden backups, each after the one that is instead of it
			same := func(m *backup.Manifest) string {
				m.StoredBytes = 0
				for i := range m.PackList {
					m.PackList[i].Size = 0
				}
				text, err := m.Encode()
				require.NoError(t, err)
				return strings.NewReplacer(ids...).Replace(sums.ReplaceAllString(string(text), ""))
			}
			takeGolden(t, repotest.Mem(nil), name, func(m *backup.Manifest, _ *backuptest.Cluster) {
				want, err := backup.Load(t.Context(), golden, all[len(ids)/2].ID)
				require.NoError(t, err)
				ids = append(ids, string(m.ID), string(want.ID))
				require.Equal(t, same(want), same(m))
			})
		})
	}
}

// writeGoldenLayout makes a golden repository anew. FORMAT.md has to follow.
func writeGoldenLayout(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(goldenLayout, name)
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	store, err := repo.OpenDir(dir, nil)
	require.NoError(t, err)
	takeGolden(t, store, name, func(m *backup.Manifest, _ *backuptest.Cluster) {
		text, err := m.Encode()
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(goldenLayout, fmt.Sprintf("%s.%s.jsonl", name, m.Type)), text, 0o600))
	})
	for _, key := range append(keys(t, store, "leases/"), keys(t, store, "probe/")...) {
		require.NoError(t, store.Delete(t.Context(), key))
	}
}
