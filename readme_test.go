package pgcairn_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// README begins

// On the database host, which holds the recipient only: it writes backups that it cannot read.
func backUp(ctx context.Context, dir, state string, to age.Recipient, pgdata, dsn string) (*backup.Manifest, error) {
	keys, err := crypto.New([]age.Recipient{to}, nil)
	if err != nil {
		return nil, err
	}
	store, err := repo.OpenDir(dir, nil) // or bucket.New(b, nil)
	if err != nil {
		return nil, err
	}
	// Again: opens it. Without state no call would know the keys, and the parents of incremental backups, of those before.
	r, err := repo.Init(ctx, store, &repo.Options{Cipher: keys, StateDir: state})
	if err != nil {
		return nil, err
	}
	cluster, err := backup.Directory(pgdata, dsn, nil)
	if err != nil {
		return nil, err
	}
	return backup.Take(ctx, r, cluster, nil)
}

// Where restores happen, with the repository opened with the identity.
func recoverTo(ctx context.Context, r *repo.Repo, at time.Time, pgdata string) error {
	plan, err := restore.Prepare(ctx, r, restore.AtTime(at), nil) // touches nothing; print it
	if err != nil {
		return err
	}
	_, err = plan.Run(ctx, r, pgdata, nil)
	return err
}

// README ends

// TestReadmeLibrary runs the code that README.md shows, after making sure that it is that code.
func TestReadmeLibrary(t *testing.T) {
	source, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	_, code, ok := strings.Cut(string(source), "// README begins\n\n")
	require.True(t, ok)
	code, _, ok = strings.Cut(code, "\n// README ends")
	require.True(t, ok)
	require.Contains(t, readme(t), "```go\n"+code+"```\n")

	ctx := t.Context()
	c := pgtest.New(t, nil)
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	dir := t.TempDir()
	c.Exec(t, `create table kept as select generate_series(1, 1000) as i`)
	_, err = backUp(ctx, dir, t.TempDir(), id.Recipient(), c.Data, c.DSN("postgres"))
	require.NoError(t, err)
	want := pgtest.Checksums(t, c)
	at := pgtest.Value[time.Time](t, c, `select clock_timestamp()`)
	c.Exec(t, `drop table kept`)

	r := open(t, dir, id)
	archiveAll(t, c, r)
	pgdata := filepath.Join(pgtest.Dir(t), "recovered")
	require.NoError(t, recoverTo(ctx, r, at, pgdata))
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, pgdata, 0, nil)))
}

// TestReadmeByHand recovers a cluster with the commands that README.md gives for when there is no pgcairn: age, zstd and
// perl. The server that boots from the result is the judge.
func TestReadmeByHand(t *testing.T) {
	_, script, ok := strings.Cut(readme(t), "## Recovery by hand")
	require.True(t, ok)
	_, script, ok = strings.Cut(script, "```sh\n")
	require.True(t, ok)
	script, _, ok = strings.Cut(script, "```\n")
	require.True(t, ok)

	c := pgtest.New(t, nil)
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	dir := t.TempDir()
	c.Exec(t, `create table kept as select i, md5(i::text) from generate_series(1, 100000) i`)
	_, err = backUp(t.Context(), dir, t.TempDir(), id.Recipient(), c.Data, c.DSN("postgres"))
	require.NoError(t, err)
	c.Exec(t, `delete from kept where i < 1000`)
	source, err := backup.Directory(c.Data, c.DSN("postgres"), nil)
	require.NoError(t, err)
	m, err := backup.Take(t.Context(), open(t, dir, id), source, &backup.Options{Type: backup.Incremental})
	require.NoError(t, err)
	require.Equal(t, backup.Incremental, m.Type)
	c.Exec(t, `delete from kept where i % 3 = 0`)
	want := pgtest.Checksums(t, c) // which writes WAL, too: hint bits
	archiveAll(t, c, open(t, dir, id))

	identity := filepath.Join(t.TempDir(), "identity.txt")
	require.NoError(t, os.WriteFile(identity, []byte(id.String()+"\n"), 0o600))
	pgdata := filepath.Join(pgtest.Dir(t), "by-hand")
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "IDENTITY="+identity, "BACKUP="+string(m.ID), "PGDATA="+pgdata)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, pgdata, 0, nil)))
}

// TestReadmeRole backs up by SQL, and checks that it can, as the role that README.md makes. That none of its privileges
// for that is too much, TestSQLPrivileges of package backup shows.
func TestReadmeRole(t *testing.T) {
	_, grants, ok := strings.Cut(readme(t), "```sql\n")
	require.True(t, ok)
	grants, _, ok = strings.Cut(grants, "```\n")
	require.True(t, ok)
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: map[string]string{"archive_mode": "on", "archive_command": "true"}})
		c.Exec(t, forMajor(grants, major))
		dsn := c.DSN("postgres") + " user=backup"
		store, err := repo.OpenDir(t.TempDir(), nil)
		require.NoError(t, err)
		r, err := repo.Init(t.Context(), store, nil)
		require.NoError(t, err)
		source, err := backup.SQL(dsn, nil)
		require.NoError(t, err)
		_, err = backup.Take(t.Context(), r, source, nil)
		require.NoError(t, err)
		var checked []string
		report, err := backup.Check(t.Context(), r, dsn, &backup.CheckOptions{SQL: true, Wait: time.Millisecond})
		require.Error(t, err, "nothing archives")
		for _, s := range report.Steps {
			checked = append(checked, fmt.Sprint(s.Name, s.OK))
		}
		require.Equal(t, []string{"connecttrue", "roletrue", "settingstrue", "storetrue", "objectstrue", "clustertrue", "archivefalse"}, checked)
		var denied *backup.PrivilegeError
		require.NotErrorAs(t, err, &denied)
	})
}

// forMajor takes the functions of old versions, which stand in a comment, in the place of the new ones.
func forMajor(grants string, major int) string {
	if major > 14 {
		return grants
	}
	var lines []string
	for line := range strings.Lines(grants) {
		if _, old, ok := strings.Cut(line, "-- 13, 14: "); ok {
			line = strings.TrimSpace(old) + ",\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	return string(b)
}

func open(t *testing.T, dir string, id *age.X25519Identity) *repo.Repo {
	t.Helper()
	keys, err := crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
	require.NoError(t, err)
	store, err := repo.OpenDir(dir, nil)
	require.NoError(t, err)
	r, err := repo.Open(t.Context(), store, &repo.Options{Cipher: keys})
	require.NoError(t, err)
	return r
}

// archiveAll archives all WAL that a cluster has written so far, as its archiver would.
func archiveAll(t *testing.T, c *pgtest.Cluster, r *repo.Repo) {
	t.Helper()
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for _, f := range pgtest.CompleteWAL(t, c) {
		require.NoError(t, a.Push(t.Context(), f), f)
	}
}
