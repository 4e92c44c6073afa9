package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/stretchr/testify/require"
)

// keyDrill is a directory in which the commands of KEYS.md are run.
type keyDrill struct {
	dir string
	n   int // objects written
}

// block returns the commands below a heading of KEYS.md.
func (d *keyDrill) block(t *testing.T, heading string) string {
	t.Helper()
	b, err := os.ReadFile("../../repo/KEYS.md")
	require.NoError(t, err)
	_, below, ok := strings.Cut(string(b), "\n## "+heading+"\n")
	require.True(t, ok, heading)
	_, below, ok = strings.Cut(below, "\n```sh\n")
	require.True(t, ok, heading)
	commands, _, ok := strings.Cut(below, "\n```\n")
	require.True(t, ok, heading)
	require.NotContains(t, commands, "\n## ")
	return commands
}

// run runs them.
func (d *keyDrill) run(t *testing.T, heading string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", d.block(t, heading))
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "PGCAIRN_REPO="+filepath.Join(d.dir, "repo"),
		"PGCAIRN_STATE_DIR="+filepath.Join(d.dir, "state"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", heading, out)
	return string(out)
}

func (d *keyDrill) identity(t *testing.T, file string) *age.X25519Identity {
	t.Helper()
	f, err := os.Open(filepath.Join(d.dir, file))
	require.NoError(t, err)
	defer f.Close()
	ids, err := age.ParseIdentities(f)
	require.NoError(t, err)
	return ids[0].(*age.X25519Identity)
}

func (d *keyDrill) open(t *testing.T, o *repo.Options) *repo.Repo {
	t.Helper()
	store, err := repo.OpenDir(filepath.Join(d.dir, "repo"), nil)
	require.NoError(t, err)
	r, err := repo.Open(t.Context(), store, o)
	require.NoError(t, err)
	return r
}

// write writes an object as a host does that was told of recipients, and returns the object's data key.
func (d *keyDrill) write(t *testing.T, host string, to ...*age.X25519Identity) string {
	t.Helper()
	var recipients []age.Recipient
	for _, id := range to {
		recipients = append(recipients, id.Recipient())
	}
	c, err := crypto.New(recipients, nil)
	require.NoError(t, err)
	r := d.open(t, &repo.Options{Cipher: c, StateDir: filepath.Join(d.dir, host)})
	d.n++
	_, err = r.Put(t.Context(), fmt.Sprint("objects/", d.n), nil, func(w io.Writer) error {
		_, err := io.WriteString(w, "content")
		return err
	})
	require.NoError(t, err)
	id, err := r.DataKey(t.Context())
	require.NoError(t, err)
	return id
}

// reads counts the objects that an identity reads.
func (d *keyDrill) reads(t *testing.T, id *age.X25519Identity) (n int) {
	t.Helper()
	c, err := crypto.New(nil, []age.Identity{id})
	require.NoError(t, err)
	r := d.open(t, &repo.Options{Cipher: c})
	for i := range d.n {
		if readObject(t.Context(), r, fmt.Sprint("objects/", i+1)) == nil {
			n++
		}
	}
	return n
}

func readObject(ctx context.Context, r *repo.Repo, key string) error {
	o, err := r.OpenObject(ctx, key)
	if err != nil {
		return err
	}
	defer o.Close()
	_, err = io.Copy(io.Discard, o)
	return err
}

// The commands of KEYS.md do what it says, one chapter after the other.
func TestKeysByTheBook(t *testing.T) {
	d := &keyDrill{dir: t.TempDir()}
	d.run(t, "From the start: escrow")
	alice, escrow := d.identity(t, "alice.txt"), d.identity(t, "escrow.txt")
	first := d.write(t, "db1", alice, escrow)
	d.write(t, "db2", alice, escrow)
	require.Equal(t, 2, d.reads(t, escrow))

	list := d.run(t, "Who can read")
	require.Equal(t, 2, strings.Count(list, fmt.Sprintf("for %s and %s\n", alice.Recipient(), escrow.Recipient())))

	require.Contains(t, d.run(t, "Somebody joins"), "wrapped anew: 2;")
	bob := d.identity(t, "bob.txt")
	require.Equal(t, 2, d.reads(t, bob))
	require.NotEqual(t, first, d.write(t, "db1", alice, escrow, bob))
	second := d.write(t, "db2", alice, escrow)
	require.Equal(t, 4, d.reads(t, bob), "db2 was not told, and goes on with a key that bob was given")

	require.Contains(t, d.run(t, "Somebody leaves"), "retired: 3;")
	require.Zero(t, d.reads(t, bob))
	require.NotEqual(t, second, d.write(t, "db2", alice, escrow), "the host notices at once")
	require.Equal(t, d.n, d.reads(t, alice))

	d.run(t, "An identity leaks")
	anew := d.identity(t, "alice-2.txt")
	d.write(t, "db1", anew, escrow)
	require.Zero(t, d.reads(t, alice))
	require.Equal(t, d.n, d.reads(t, anew))

	d.run(t, "An identity is lost")
	third := d.identity(t, "alice-3.txt")
	require.Equal(t, d.n, d.reads(t, third))
	require.Equal(t, d.n, d.reads(t, escrow))
	require.Zero(t, d.reads(t, anew))

	d.run(t, "The drill")
	text, err := os.ReadFile("../../repo/KEYS.md")
	require.NoError(t, err)
	require.Equal(t, 7, strings.Count(string(text), "\n```sh\n"), "every block is run")
}

func TestKeyRotate(t *testing.T) {
	h := newHost(t)
	h.ok(t, "init", "--recipient", h.recipient)
	another := filepath.Join(h.dir, "another.txt")
	text := h.ok(t, "key", "generate")
	require.NoError(t, os.WriteFile(another, []byte(text), 0o644))
	_, recipient, _ := strings.Cut(strings.SplitN(text, "\n", 2)[0], ": ")

	h.run(t, "key", "rotate").requireFailure(t, exitUsage, "give the new recipients", "")
	h.run(t, "key", "rotate", "--recipient", recipient, "--identity", h.identity).requireFailure(t, exitFailed, "no identity is given", "nothing was changed")
	requireKeys(t, h.json(t, "key", "rotate", "--recipient", recipient, "--identity", h.identity, "--identity", another),
		"rewrapped", "unchanged", "left", "kept", "retired")
	requireKeys(t, h.json(t, "key", "list", "--identity", another), "keys")
	require.Contains(t, h.ok(t, "key", "rotate", "--new-key", "--identity", another), "retired: 0;")
}

// TestLostIdentity: no identity is left of those that read what there is. What is written for another one is backed up,
// planned, restored and told all the same, and what cannot be read goes when somebody says so.
func TestLostIdentity(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.ok(t, "init", "--recipient", h.recipient)
	c := newCluster(t, h, nil)
	lost := h.writer().with("PGHOST="+c.Socket, "PGUSER=postgres").json(t, "backup", "--pgdata", c.Data)["id"].(string)

	file := filepath.Join(h.dir, "another.txt")
	text := h.ok(t, "key", "generate")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	_, recipient, _ := strings.Cut(strings.SplitN(text, "\n", 2)[0], ": ")
	another := h.with("PGCAIRN_IDENTITY="+file, "PGCAIRN_RECIPIENTS="+recipient)
	c.Exec(t, "alter system set archive_command = '"+program+" wal push --recipient "+recipient+" %p'", "select pg_reload_conf()")
	near := another.with("PGHOST="+c.Socket, "PGUSER=postgres")
	kept := near.json(t, "backup", "--pgdata", c.Data)["id"].(string)
	c.Exec(t, `create table precious as select i from generate_series(1, 1000) i`)
	want := pgtest.Checksums(t, c) // which writes WAL, too: hint bits
	archiveAll(t, c)

	listed := another.run(t, "list", "--json")
	require.Equal(t, 1, listed.code)
	require.Contains(t, listed.stdout, kept)
	require.NotContains(t, listed.stdout, lost)
	require.Contains(t, listed.stderr, lost)
	require.Contains(t, listed.stderr, "hint: it is damaged, gone, or for another identity")
	dir := filepath.Join(pgtest.Dir(t), "data")
	another.ok(t, "restore", dir)
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)))
	another.ok(t, "verify", kept)
	require.Contains(t, another.run(t, "status", "--json").stdout, lost)

	another.run(t, "expire", "--keep-last", "1").requireFailure(t, 1, "nothing is dropped while a manifest cannot be read", "--give-up")
	another.run(t, "expire", "--keep-last", "1", "--give-up", kept).requireFailure(t, 1, lost, "--give-up")
	require.Contains(t, another.ok(t, "expire", "--keep-last", "1", "--give-up", lost), "drop "+lost+": given up")
	require.Len(t, another.json(t, "list")["backups"], 1)
	require.Equal(t, true, another.json(t, "status")["ok"])
}
