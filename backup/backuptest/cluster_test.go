package backuptest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

func newRepo(t *testing.T, c *backuptest.Cluster) *repo.Repo {
	t.Helper()
	r, err := repo.Init(t.Context(), repotest.Mem(nil), &repo.Options{Now: c.Now})
	require.NoError(t, err)
	return r
}

// The fake is as the real in what the rest of pgcairn reads of it.
func TestClusterOfEveryMajor(t *testing.T) {
	t.Parallel()
	for major := 13; major <= 18; major++ {
		c := backuptest.New(&backuptest.Options{PGVersion: major*10000 + 3, SystemID: 42, SegmentSize: 2 << 20})
		m, err := backup.Take(t.Context(), newRepo(t, c), c, nil)
		require.NoError(t, err)
		control, err := pgfile.ParseControl(m.Control)
		require.NoError(t, err)
		require.Equal(t, uint64(42), control.SystemID)
		require.Equal(t, uint32(2<<20), control.WALSegmentSize)
		require.Equal(t, uint32(1), control.ChecksumVersion)
		require.Equal(t, uint32(1), control.Timeline)
		require.Equal(t, uint64(m.StartLSN), control.CheckpointRedo)
		require.Zero(t, m.BadPages)
		label, err := pgfile.ParseLabel(m.Label)
		require.NoError(t, err)
		require.Equal(t, m.FirstSegment().Name(), label.StartSegment)
		for _, p := range c.Files() {
			require.False(t, pgfile.FileExcluded(p), p)
		}
	}
}

func TestClusterIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	one, two := backuptest.New(nil), backuptest.New(nil)
	require.Equal(t, one.Files(), two.Files())
	for _, p := range one.Files() {
		a, err := one.Read(p)
		require.NoError(t, err)
		b, err := two.Read(p)
		require.NoError(t, err)
		require.Equal(t, a, b)
	}
	for range 3 {
		require.Equal(t, one.Now(), two.Now())
	}
	var segments [][]byte
	for range 2 {
		c := backuptest.New(&backuptest.Options{Logged: true})
		c.Write("base/5/20000", backuptest.Pages(0, 3, 1, "new"))
		c.Remove("base/5/16390")
		c.Commit()
		c.Switch(1)
		b, err := c.WAL("000000010000000000000001")
		require.NoError(t, err)
		segments = append(segments, b)
	}
	require.Equal(t, segments[0], segments[1])
	require.Equal(t, time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC), one.Now())
}

func TestWALOfACluster(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	r := newRepo(t, c)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	read := func(name string) error {
		_, err := c.WAL(name)
		return err
	}
	const first, second = "000000010000000000000001", "000000010000000000000002"
	require.ErrorIs(t, read(first), fs.ErrNotExist, "it is not complete")
	before := c.LSN()
	require.Greater(t, c.Switch(2), before)
	require.NoError(t, read(first))
	require.NoError(t, read(second))
	require.NoError(t, c.Archive(t.Context(), a))
	require.NoError(t, c.Archive(t.Context(), a), "again")
	c.Recycle()
	require.ErrorIs(t, read(first), fs.ErrNotExist)

	require.Equal(t, wal.Timeline(2), c.Promote())
	require.Equal(t, wal.Timeline(2), c.Timeline())
	require.ErrorIs(t, read("000000020000000000000003"), fs.ErrNotExist)
	c.Switch(1)
	require.NoError(t, read("000000020000000000000003"))
	require.ErrorIs(t, read("000000010000000000000003"), fs.ErrNotExist, "it never becomes complete")
	require.NoError(t, c.Archive(t.Context(), a))
	cov, err := a.Coverage(t.Context())
	require.NoError(t, err)
	require.Equal(t, c.System(), cov.System)
	require.Len(t, cov.Timelines, 2)
	require.Equal(t, wal.Timeline(1), cov.Timelines[1].History.Forks[0].Timeline)
	for _, name := range []string{"", "x", "00000001.history", "00000003.history", first + ".partial"} {
		require.ErrorIs(t, read(name), fs.ErrNotExist, name)
	}
}

func TestHookFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, op := range []backuptest.Operation{
		backuptest.OpBegin, backuptest.OpFiles, backuptest.OpCatalog, backuptest.OpOpen, backuptest.OpRead, backuptest.OpStop,
	} {
		c := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
			require.Equal(t, call.Op == backuptest.OpOpen || call.Op == backuptest.OpRead, call.Path != "")
			if call.Op == op {
				return broken
			}
			return nil
		}})
		_, err := backup.Take(t.Context(), newRepo(t, c), c, nil)
		require.ErrorIs(t, err, broken)
		require.Zero(t, c.Running())
	}
}

// A backup keeps what the cluster told it, whatever becomes of it later.
func TestCatalogOfACluster(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	m, err := backup.Take(t.Context(), newRepo(t, c), c, nil)
	require.NoError(t, err)
	require.Nil(t, m.Catalog)

	names := &backup.Catalog{Version: "PostgreSQL 18", Settings: map[string]string{"wal_level": "replica"}, Databases: []backup.Database{{OID: 5, Name: "postgres"}}}
	c = backuptest.New(&backuptest.Options{Catalog: names})
	r := newRepo(t, c)
	m, err = backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	names.Databases[0].Name = "renamed"
	require.Equal(t, "postgres", m.Catalog.DatabaseName(5))
	m, err = backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	require.Equal(t, "renamed", m.Catalog.DatabaseName(5))
	m, err = backup.Load(t.Context(), r, m.ID)
	require.NoError(t, err)
	require.Equal(t, names, m.Catalog)
}

// What is logged is found by an incremental backup in each way, and only that is read.
func TestLoggedCluster(t *testing.T) {
	t.Parallel()
	for _, method := range []backup.Method{backup.ByIndex, backup.BySummary} {
		c := backuptest.New(&backuptest.Options{Logged: true, RelSegPages: 100})
		for n, p := range []string{"base/5/20000", "base/5/20000.1", "base/5/20000.2"} {
			c.Write(p, backuptest.Pages(uint32(n)*100, 100, 1, "a large table"))
		}
		r := newRepo(t, c)
		_, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		have, err := c.Read("base/5/20000.2")
		require.NoError(t, err)
		copy(have[7*8192:], backuptest.Pages(207, 1, 1, "by the WAL alone it is known that this has changed"))
		c.Write("base/5/20000.2", have)
		c.Write("base/5/20001", backuptest.Pages(0, 2, 1, "new"))
		c.Write("base/5/20001_vm", backuptest.Pages(0, 1, 1, "its map"))
		c.Remove("base/5/16384")
		m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Incremental, Method: method})
		require.NoError(t, err)
		require.Equal(t, method, m.Method)
		require.Less(t, m.ReadBytes, int64(200<<10))
		p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
		require.NoError(t, err)
		dir := filepath.Join(t.TempDir(), "data")
		_, err = p.Run(t.Context(), r, dir, nil)
		require.NoError(t, err)
		require.NoError(t, c.Compare(dir))

		// On a new timeline, too, of which there are no summaries of the one before.
		c.Promote()
		for range 2 {
			m, err = backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Incremental, Method: method})
			require.NoError(t, err)
		}
		require.Equal(t, backup.Incremental, m.Type)
	}
	require.Panics(t, func() { backuptest.New(nil).Commit() })
	require.Panics(t, func() { backuptest.New(nil).RestorePoint("x") })
	c := backuptest.New(nil)
	r := newRepo(t, c)
	_, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	for _, method := range []backup.Method{backup.ByIndex, backup.BySummary} {
		_, err = backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Incremental, Method: method})
		require.Error(t, err)
	}
}

// Transactions are in the WAL with their times and IDs, on every major.
func TestCommitsOfACluster(t *testing.T) {
	t.Parallel()
	for major := 13; major <= 18; major++ {
		c := backuptest.New(&backuptest.Options{Logged: true, PGVersion: major * 10000})
		r := newRepo(t, c)
		_, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		_, first := c.Commit()
		c.Remove("base/5/16384") // a transaction as well
		xid, last := c.Commit()
		require.Greater(t, xid, uint32(743))
		c.Switch(1)
		a, err := wal.NewArchive(r, nil)
		require.NoError(t, err)
		require.NoError(t, c.Archive(t.Context(), a))
		var dropped []wal.Relation
		for e, err := range a.Search(t.Context(), wal.Query{Kinds: []wal.EventKind{wal.EventDrop}}) {
			require.NoError(t, err)
			dropped = append(dropped, e.Relations...)
		}
		require.Equal(t, []wal.Relation{{Tablespace: 1663, Database: 5, Number: 16384}}, dropped)
		var times []time.Time
		for e, err := range a.Search(t.Context(), wal.Query{Kinds: []wal.EventKind{wal.EventCommit}}) {
			require.NoError(t, err)
			times = append(times, e.Time)
			require.Equal(t, e.XID == xid, e.Time.Equal(last))
		}
		require.Len(t, times, 3)
		require.True(t, first.Equal(times[0]))
	}
}

func TestDamageOfACluster(t *testing.T) {
	t.Parallel()
	c := backuptest.New(&backuptest.Options{Logged: true, RelSegPages: 2})
	c.Write("base/5/16384.1", backuptest.Pages(2, 2, 1, "a table"))
	r := newRepo(t, c)
	_, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	c.Damage("base/5/16384.1", 3)
	m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Incremental})
	require.NoError(t, err)
	require.Zero(t, m.BadPages, "nobody has read it")
	m, err = backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	require.Equal(t, []backup.BadPage{{Path: "base/5/16384.1", Block: 3}}, m.BadPageList)
	for p, block := range map[string]uint32{"base/5/16384.1": 1, "base/5/16384": 3, "base/5/1": 0, "PG_VERSION": 0} {
		require.Panics(t, func() { c.Damage(p, block) }, p)
	}
}

func TestCompareFindsEveryDifference(t *testing.T) {
	t.Parallel()
	spaces := []backup.Tablespace{{OID: 16385, Name: "fast", Location: "/mnt/fast"}}
	c := backuptest.New(&backuptest.Options{Tablespaces: spaces})
	r := newRepo(t, c)
	_, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.NoError(t, err)
	const inSpace = "pg_tblspc/16385/PG_18_202600000/5/16400"
	tests := []struct {
		name   string
		change func(dir string) error
		want   string
	}{
		{"none", func(string) error { return nil }, ""},
		{"other content", func(dir string) error { return os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("17\n"), 0o600) }, "PG_VERSION has other content"},
		{"a file less", func(dir string) error { return os.Remove(filepath.Join(dir, "base/1/1259")) }, "base/1/1259"},
		{"a file more", func(dir string) error { return os.WriteFile(filepath.Join(dir, "base/1/1"), nil, 0o600) }, "base/1/1 is not of the cluster"},
		{"other content in a tablespace", func(dir string) error { return os.Truncate(filepath.Join(dir, inSpace), 1) }, inSpace + " has other content"},
		{"a file more in a tablespace", func(dir string) error { return os.WriteFile(filepath.Join(dir, inSpace+"x"), nil, 0o600) }, inSpace + "x is not"},
		{"what a restore writes", func(dir string) error { return os.WriteFile(filepath.Join(dir, "postgresql.auto.conf"), nil, 0o600) }, ""},
		{"WAL", func(dir string) error { return os.WriteFile(filepath.Join(dir, "pg_wal/x"), nil, 0o600) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "data")
			_, err := p.Run(t.Context(), r, dir, &restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(base, "fast")}})
			require.NoError(t, err)
			require.NoError(t, tt.change(dir))
			err = c.Compare(dir)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.Equal(t, 1, strings.Count(err.Error(), "backuptest: "), err)
		})
	}
	require.Error(t, c.Compare(t.TempDir()))
}

func TestNewRefusesFilesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	require.Panics(t, func() { backuptest.New(&backuptest.Options{Files: os.DirFS("/nowhere")}) })
	require.Empty(t, backuptest.New(&backuptest.Options{Files: fstest.MapFS{}}).Files())
}

func TestMeanwhile(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	m, err := backup.Take(t.Context(), newRepo(t, c), backuptest.Meanwhile{
		Source:  c,
		Listing: func() { c.Write("base/5/20000", backuptest.Pages(0, 1, 1, "listed")) },
		Reading: func() { c.Remove("base/5/16390") },
	}, nil)
	require.NoError(t, err)
	paths := map[string]bool{}
	for _, f := range m.FileList {
		paths[f.Path] = true
	}
	require.True(t, paths["base/5/20000"])
	require.False(t, paths["base/5/16390"])
	_, err = backup.Take(t.Context(), newRepo(t, c), backuptest.Meanwhile{Source: c}, nil)
	require.NoError(t, err)
}
