package drill_test

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// site is a cluster, and a repository with a backup of it and its WAL.
type site struct {
	c     *pgtest.Cluster
	store string // directory of the repository
	r     *repo.Repo
	m     *backup.Manifest
}

// newSite makes a cluster with a table of 300 rows, of which the backup has 200.
func newSite(t *testing.T, o *pgtest.Options, encrypted bool) *site {
	t.Helper()
	s := newCluster(t, o, encrypted)
	s.backUp(t)
	s.c.Exec(t, `insert into orders select i, md5(i::text) from generate_series(201, 250) i`, `select pg_create_restore_point('half')`,
		`insert into orders select i, md5(i::text) from generate_series(251, 300) i`, `select pg_create_restore_point('other')`, `select pg_switch_wal()`)
	s.c.Exec(t, `create table later ()`)
	s.archive(t)
	return s
}

// newCluster makes the cluster, with 200 rows, and an empty repository.
func newCluster(t *testing.T, o *pgtest.Options, encrypted bool) *site {
	t.Helper()
	if o == nil {
		o = &pgtest.Options{}
	}
	if o.Conf == nil {
		o.Conf = map[string]string{}
	}
	o.Conf["archive_mode"], o.Conf["archive_command"], o.Conf["autovacuum"] = "on", "false", "off"
	s := &site{c: pgtest.New(t, o), store: t.TempDir()}
	s.c.Exec(t, `create table orders (id int primary key, note text)`,
		`insert into orders select i, md5(i::text) from generate_series(1, 200) i`)
	store, err := repo.OpenDir(s.store, nil)
	require.NoError(t, err)
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

// backUp takes a full backup.
func (s *site) backUp(t *testing.T) {
	t.Helper()
	source, err := backup.Directory(s.c.Data, s.c.DSN("postgres"), nil)
	require.NoError(t, err)
	s.m, err = backup.Take(t.Context(), s.r, source, &backup.Options{Type: backup.Full})
	require.NoError(t, err)
}

// archive archives all WAL that the cluster has written so far.
func (s *site) archive(t *testing.T) {
	t.Helper()
	a, err := wal.NewArchive(s.r, nil)
	require.NoError(t, err)
	for _, f := range pgtest.CompleteWAL(t, s.c) {
		require.NoError(t, a.Push(t.Context(), f), f)
	}
}

// options are those of a drill of the site, in a directory that is not there yet.
func (s *site) options(t *testing.T) *drill.Options {
	t.Helper()
	return &drill.Options{
		Dir: filepath.Join(pgtest.Dir(t), "scratch"), BinDir: filepath.Dir(s.c.Bin(t, "postgres")), User: serverUser(t),
		Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB"},
	}
}

// run drills, with a report that agrees with the error, and leaves nothing.
func (s *site) run(t *testing.T, target restore.Target, o *drill.Options) (*drill.Report, error) {
	t.Helper()
	r, err := drill.Run(t.Context(), s.r, target, o)
	requireReport(t, r, err)
	requireNothing(t, o.Dir)
	return r, err
}

func requireReport(t *testing.T, r *drill.Report, err error) {
	t.Helper()
	require.NotNil(t, r)
	require.Equal(t, err == nil, r.OK, "%v", err)
	if err != nil {
		var failed *drill.Error
		require.ErrorAs(t, err, &failed)
		require.Equal(t, failed.Phase, r.Phase)
		require.Equal(t, failed.Err.Error(), r.Problem)
		require.Contains(t, r.String(), "FAILED, phase "+string(r.Phase))
	}
}

// requireNothing requires that neither the directory nor a process that has to do with it is there.
func requireNothing(t *testing.T, dir string) {
	t.Helper()
	require.NoDirExists(t, dir)
	require.Empty(t, processes(t, dir))
}

// processes are those whose command line, environment or working directory has to do with a directory.
func processes(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, p := range all {
		command, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(p, "environ"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		text := strings.ReplaceAll(string(command), "\x00", " ")
		if filepath.Base(p) != "self" && strings.Contains(text+string(environ)+cwd, dir) {
			found = append(found, filepath.Base(p)+" "+text)
		}
	}
	return found
}

// serverUser is the user for drills: one has to be given by root only.
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

// copied is the site with a copy of its repository, which is not encrypted, for a test to damage.
func (s *site) copied(t *testing.T) *site {
	t.Helper()
	other := *s
	other.store = filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(other.store, os.DirFS(s.store)))
	store, err := repo.OpenDir(other.store, nil)
	require.NoError(t, err)
	other.r, err = repo.Open(t.Context(), store, nil)
	require.NoError(t, err)
	return &other
}

// object is the file of one object of the repository: the last one of a pattern.
func (s *site) object(t *testing.T, elements ...string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(append([]string{s.store}, elements...)...))
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all[len(all)-1]
}

// flip changes a bit in the middle of a file.
func flip(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	require.NoError(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
