package salvage_test

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/salvage"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// site is a cluster with a database shop, and a repository.
type site struct {
	c *pgtest.Cluster
	r *repo.Repo
	m *backup.Manifest // of the latest backup

	fetched, ofWAL atomic.Int64 // bytes read from the store
}

func newSite(t *testing.T, o *pgtest.Options, encrypted bool) *site {
	t.Helper()
	if o.Conf == nil {
		o.Conf = map[string]string{}
	}
	o.Conf["archive_mode"], o.Conf["archive_command"], o.Conf["autovacuum"] = "on", "false", "off"
	s := &site{c: pgtest.New(t, o)}
	s.c.Exec(t, `create database shop`)
	dir, err := repo.OpenDir(t.TempDir(), nil)
	require.NoError(t, err)
	store := repo.Observe(dir, func(op repo.Op) {
		switch {
		case op.Name != "open":
		case strings.HasPrefix(op.Key, "wal/"), strings.HasPrefix(op.Key, "indexes/"):
			s.ofWAL.Add(op.Bytes)
		default:
			s.fetched.Add(op.Bytes)
		}
	})
	ro := &repo.Options{}
	if encrypted {
		id, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		ro.Cipher, err = crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
		require.NoError(t, err)
	}
	s.r, err = repo.Init(context.Background(), store, ro)
	require.NoError(t, err)
	return s
}

// exec executes SQL in the shop.
func (s *site) exec(t *testing.T, sql ...string) {
	t.Helper()
	s.c.ExecIn(t, "shop", sql...)
}

// backUp takes a full backup.
func (s *site) backUp(t *testing.T) {
	t.Helper()
	source, err := backup.Directory(s.c.Data, s.c.DSN("postgres"), nil)
	require.NoError(t, err)
	s.m, err = backup.Take(t.Context(), s.r, source, &backup.Options{Type: backup.Full})
	require.NoError(t, err)
}

// archive archives the WAL that the cluster has written since the backup.
func (s *site) archive(t *testing.T) *wal.Archive {
	t.Helper()
	a, err := wal.NewArchive(s.r, nil)
	require.NoError(t, err)
	for _, f := range pgtest.CompleteWAL(t, s.c) {
		if filepath.Base(f) >= s.m.FirstSegment().Name() {
			require.NoError(t, a.Push(t.Context(), f), f)
		}
	}
	return a
}

// beforeDrop is just before the last table was dropped.
func (s *site) beforeDrop(t *testing.T, a *wal.Archive) restore.Target {
	t.Helper()
	var last *wal.Event
	for e, err := range a.Search(t.Context(), wal.Query{Kinds: []wal.EventKind{wal.EventDrop}}) {
		require.NoError(t, err)
		last = &e
	}
	require.NotNil(t, last)
	return restore.Before(*last)
}

// sums are the checksums of the rows of tables of the shop.
func sums(ctx context.Context, conn *pgx.Conn, tables []salvage.Table) (map[string]string, error) {
	all := map[string]string{}
	for _, table := range tables {
		var sum string
		sql := fmt.Sprintf(`select count(*) || ' rows, ' || coalesce(sum(hashtextextended(r::text, 0)::numeric), 0) from only %s r`, table)
		if err := conn.QueryRow(ctx, sql).Scan(&sum); err != nil {
			return nil, err
		}
		all[table.String()] = sum
	}
	return all, nil
}

// sumsNow are those of the cluster.
func (s *site) sumsNow(t *testing.T, tables ...salvage.Table) map[string]string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.c.DSN("shop"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	all, err := sums(t.Context(), conn, tables)
	require.NoError(t, err)
	return all
}

// options are those of a salvage in a directory that is not there yet.
func (s *site) options(t *testing.T) *salvage.Options {
	t.Helper()
	return &salvage.Options{
		Dir: filepath.Join(pgtest.Dir(t), "scratch"), BinDir: filepath.Dir(s.c.Bin(t, "postgres")), User: serverUser(t),
		Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB"},
	}
}

// rows salvages tables and returns the checksums of their rows.
func (s *site) rows(t *testing.T, to restore.Target, o *salvage.Options, tables ...salvage.Table) (got map[string]string, r *salvage.Report) {
	t.Helper()
	inner := o.Func
	o.Func = func(ctx context.Context, conn *pgx.Conn) (err error) {
		if got, err = sums(ctx, conn, tables); err != nil || inner == nil {
			return err
		}
		return inner(ctx, conn)
	}
	r, err := salvage.Run(t.Context(), s.r, to, "shop", tables, o)
	require.NoError(t, err, "%v", r)
	requireNothing(t, o.Dir)
	return got, r
}

// requireNothing requires that neither the directory nor a process that has to do with it is there.
func requireNothing(t *testing.T, dir string) {
	t.Helper()
	require.NoDirExists(t, dir)
	all, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, p := range all {
		command, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(p, "environ"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		require.NotContains(t, string(command)+string(environ)+cwd, dir)
	}
}

// serverUser is the user for the server: one has to be given by root only.
func serverUser(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		return ""
	}
	for _, name := range []string{"postgres", "nobody"} {
		if _, err := user.Lookup(name); err == nil {
			return name
		}
	}
	t.Fatal("there is no user to run servers as")
	return ""
}
