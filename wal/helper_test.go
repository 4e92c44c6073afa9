package wal_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

var (
	soak   = flag.Bool("soak", false, "kill 200 times instead of 25")
	update = flag.Bool("update", false, "make testdata/golden and testdata/seed anew, from servers")
)

// systemID is the cluster of most tests.
const systemID = 7_500_000_000_000_000_042

// segment returns a segment of the first timeline.
func segment(number uint64) wal.Segment {
	return wal.Segment{Timeline: 1, Number: number, Size: wal.MinSegmentSize}
}

// content returns what is in a segment; the same bytes each time.
func content(s wal.Segment) []byte { return waltest.Segment(s, systemID, 18) }

// noisy is content of which a part does not compress.
func noisy(s wal.Segment) []byte {
	b := content(s)
	r := rand.NewChaCha8([32]byte{byte(s.Number), byte(s.Number >> 8)})
	_, _ = r.Read(b[4096:300_000])
	return b
}

// digest is the label of a file with content b, as repo/FORMAT.md has it.
func digest(b []byte) [32]byte {
	sum := xxh3.Hash128(b).Bytes()
	return sha256.Sum256(sum[:])
}

// place writes a file and returns its path.
func place(t testing.TB, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(path, b, 0o644))
	return path
}

func parseName(t testing.TB, name string) wal.Name {
	t.Helper()
	n, err := wal.ParseName(name)
	require.NoError(t, err)
	return n
}

// push archives content under a name.
func push(t testing.TB, a *wal.Archive, name string, b []byte) error {
	t.Helper()
	return a.PushContent(t.Context(), parseName(t, name), bytes.NewReader(b), int64(len(b)))
}

// requireHeld demands that the archive gives back just these bytes.
func requireHeld(t testing.TB, a *wal.Archive, name string, want []byte) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	require.NoError(t, a.Fetch(t.Context(), name, dst))
	got, err := os.ReadFile(dst)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "%s is other than what was pushed", name)
	has, err := a.Has(t.Context(), parseName(t, name))
	require.NoError(t, err)
	require.True(t, has)
}

// read returns a file of the archive.
func read(t testing.TB, a *wal.Archive, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, a.Read(t.Context(), name, &b), name)
	return b.Bytes()
}

// keys are what the tests encrypt with: made once, since the tests do not depend on which they are.
var keys = sync.OnceValue(func() (k struct{ identity, recipient string }) {
	var err error
	if k.identity, k.recipient, err = crypto.Generate(); err != nil {
		panic(err)
	}
	return k
})

// cipher can write and, with an identity, read.
func cipher(t testing.TB, identity string) repo.Cipher {
	t.Helper()
	recipient, from := keys().recipient, []age.Identity(nil)
	if identity != "" {
		id, err := age.ParseX25519Identity(identity)
		require.NoError(t, err)
		recipient, from = id.Recipient().String(), []age.Identity{id}
	}
	to, err := age.ParseX25519Recipient(recipient)
	require.NoError(t, err)
	c, err := crypto.New([]age.Recipient{to}, from)
	require.NoError(t, err)
	return c
}

// kinds are the kinds of repositories; each test of content runs in all.
var kinds = []string{"plain", "encrypted"}

func options(t testing.TB, kind string) *repo.Options {
	t.Helper()
	if kind == "plain" {
		return nil
	}
	return &repo.Options{Cipher: cipher(t, keys().identity)}
}

// openArchive makes a store a repository, or opens the one there is.
func openArchive(t testing.TB, s repo.Store, o *repo.Options) *wal.Archive {
	t.Helper()
	r, err := repo.Init(t.Context(), s, o)
	require.NoError(t, err)
	return newArchive(t, r)
}

// reopenArchive opens a repository without the calls that Init makes.
func reopenArchive(t testing.TB, s repo.Store, o *repo.Options) (*wal.Archive, error) {
	t.Helper()
	r, err := repo.Open(t.Context(), s, o)
	if err != nil {
		return nil, err
	}
	return newArchive(t, r), nil
}

func newArchive(t testing.TB, r *repo.Repo) *wal.Archive {
	t.Helper()
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	return a
}

// objects returns the keys of a store that start with a prefix.
func objects(t testing.TB, s repo.Store, prefix string) []string {
	t.Helper()
	var list []string
	for info, err := range s.List(t.Context(), prefix) {
		require.NoError(t, err)
		list = append(list, info.Key)
	}
	return list
}

func readObject(t testing.TB, s repo.Store, key string) []byte {
	t.Helper()
	body, err := s.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	require.NoError(t, err)
	return b
}

func writeObject(t testing.TB, s repo.Store, key string, b []byte) {
	t.Helper()
	w, err := s.Create(t.Context(), key)
	require.NoError(t, err)
	_, err = w.Write(b)
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
}

// copyStore returns a store with the same objects, each under the key that rename gives it; "" leaves it out.
func copyStore(t testing.TB, s repo.Store, rename func(key string) string) repo.Store {
	t.Helper()
	other := repotest.Mem(nil)
	for _, key := range objects(t, s, "") {
		if to := rename(key); to != "" {
			writeObject(t, other, to, readObject(t, s, key))
		}
	}
	return other
}

// requireOnly demands that a directory holds these files and nothing else.
func requireOnly(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.ElementsMatch(t, names, got)
}

// requireNoAnswer demands a failure that nobody can take for "it is not in the archive".
func requireNoAnswer(t testing.TB, err error, msg ...any) {
	t.Helper()
	require.Error(t, err, msg...)
	require.NotErrorIs(t, err, fs.ErrNotExist, msg...)
}

// seeds returns files that were taken from real servers, by name. That there are none is a failure.
func seeds(t testing.TB, kind, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "seed", kind, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, paths, "no seed matches %s/%s", kind, pattern)
	all := map[string][]byte{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		all[filepath.Base(path)] = b
	}
	return all
}

// keepSeed writes a seed when the tests run with -update.
func keepSeed(t testing.TB, kind, name string, b []byte) {
	t.Helper()
	if *update {
		place(t, filepath.Join("testdata", "seed", kind), name, b)
	}
}

// readPath returns what is in a file.
func readPath(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}
