package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// process opens a repository as a new process would, and writes an object.
func process(t *testing.T, s repo.Store, key string, o repo.Options) {
	t.Helper()
	r, err := repo.Open(t.Context(), s, &o)
	require.NoError(t, err)
	_, err = put(t.Context(), r, key, "", []byte(key))
	require.NoError(t, err)
}

// keyOf tells to which data key an object is encrypted.
func keyOf(t *testing.T, s repo.Store, key string) string {
	t.Helper()
	head, err := writeOnly(t).(*crypto.Age).Head(bytes.NewReader(storedBytes(t, s, key)))
	require.NoError(t, err)
	return "keys/" + hex.EncodeToString(head[:16]) + ".age"
}

func TestStateDir(t *testing.T) {
	g := newRig(t, true)
	dir := filepath.Join(t.TempDir(), "not", "there yet")
	o := repo.Options{Cipher: writeOnly(t), StateDir: dir}
	process(t, g.store, "a", o)
	process(t, g.store, "b", o)
	keys := storedKeys(t, g.store, "keys/")
	require.Len(t, keys, 1, "the key is used again")
	assert.Equal(t, keys[0], keyOf(t, g.store, "a"))
	assert.Equal(t, keys[0], keyOf(t, g.store, "b"))

	var files []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	require.Equal(t, []string{filepath.Join(dir, g.w.ID(), "data-key.json")}, files)
	b, err := os.ReadFile(files[0])
	require.NoError(t, err)
	assert.NotContains(t, strings.ToUpper(string(b)), "AGE-SECRET-KEY")
	info, err := os.Stat(files[0])
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode())

	// Without the directory, or in another repository, each process makes its own.
	process(t, g.store, "c", repo.Options{Cipher: o.Cipher})
	process(t, g.store, "d", repo.Options{Cipher: o.Cipher})
	assert.Len(t, storedKeys(t, g.store, "keys/"), 3)
	other := newRig(t, true)
	process(t, other.store, "a", o)
	assert.NotEqual(t, keys, storedKeys(t, other.store, "keys/"))

	for _, key := range []string{"a", "b", "c", "d"} {
		_, content, err := get(t.Context(), g.r, key)
		require.NoError(t, err)
		assert.Equal(t, key, string(content))
	}
}

// The data key tells those who can read apart: it is the same for a host's next process, and another for others.
func TestDataKey(t *testing.T) {
	g := newRig(t, true)
	dataKey := func(o repo.Options) string {
		r, err := repo.Open(t.Context(), g.store, &o)
		require.NoError(t, err)
		id, err := r.DataKey(t.Context())
		require.NoError(t, err)
		_, err = put(t.Context(), r, "of "+id, "", nil)
		if err != nil {
			require.ErrorIs(t, err, fs.ErrExist)
		}
		require.Equal(t, "keys/"+id+".age", keyOf(t, g.store, "of "+id))
		return id
	}
	dir := t.TempDir()
	first := dataKey(repo.Options{Cipher: writeOnly(t), StateDir: dir})
	require.Equal(t, first, dataKey(repo.Options{Cipher: writeOnly(t), StateDir: dir}))
	_, another, err := crypto.Generate()
	require.NoError(t, err)
	both, err := crypto.New(recipients(t, testRecipient, another), nil)
	require.NoError(t, err)
	require.NotEqual(t, first, dataKey(repo.Options{Cipher: both, StateDir: dir}))

	plain := newRig(t, false)
	none, err := plain.w.DataKey(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestStateDirOtherRecipients(t *testing.T) {
	g := newRig(t, true)
	_, another, err := crypto.Generate()
	require.NoError(t, err)
	both, err := crypto.New(recipients(t, testRecipient, another), nil)
	require.NoError(t, err)
	reversed, err := crypto.New(recipients(t, another, testRecipient), nil)
	require.NoError(t, err)
	nameless, err := crypto.New([]age.Recipient{struct{ age.Recipient }{recipients(t, testRecipient)[0]}}, nil)
	require.NoError(t, err)

	dir := t.TempDir()
	for i, tt := range []struct {
		cipher repo.Cipher
		keys   int // then
	}{
		{writeOnly(t), 1},
		{both, 2}, // who was added could not read with the first
		{reversed, 2},
		{writeOnly(t), 3}, // who was removed could with the second
		{nameless, 4},
		{nameless, 5}, // nobody can tell that it is the same
	} {
		process(t, g.store, fmt.Sprint("object ", i), repo.Options{Cipher: tt.cipher, StateDir: dir})
		assert.Len(t, storedKeys(t, g.store, "keys/"), tt.keys, i)
	}
}

func TestStateDirKeyMissingInRepository(t *testing.T) {
	g := newRig(t, true)
	o := repo.Options{Cipher: writeOnly(t), StateDir: t.TempDir()}
	process(t, g.store, "a", o)
	key := keyOf(t, g.store, "a")
	require.NoError(t, g.store.Delete(t.Context(), key))
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	process(t, g.store, "b", o)
	assert.Contains(t, log.String(), key)
	assert.NotEqual(t, key, keyOf(t, g.store, "b"))
	_, _, err := get(t.Context(), g.r, "b")
	require.NoError(t, err)

	// That nobody could look is no reason to make another.
	o.Logger = nil
	down, err := repo.Open(t.Context(), repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpList}), &o)
	require.NoError(t, err)
	_, err = put(t.Context(), down, "c", "", nil)
	requireOutage(t, err)
	assert.Len(t, storedKeys(t, g.store, "keys/"), 1)
}

// What the state directory holds is used only as far as it makes sense.
func TestStateDirDamaged(t *testing.T) {
	g := newRig(t, true)
	o := repo.Options{Cipher: writeOnly(t), StateDir: t.TempDir()}
	process(t, g.store, "a", o)
	file := filepath.Join(o.StateDir, g.w.ID(), "data-key.json")
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	for i := 0; i < len(good); i += 3 {
		b := bytes.Clone(good)
		b[i] ^= 4
		require.NoError(t, os.WriteFile(file, b, 0o600))
		process(t, g.store, fmt.Sprint("flipped ", i), o)
		require.NoError(t, os.WriteFile(file, good[:i], 0o600))
		process(t, g.store, fmt.Sprint("truncated ", i), o)
	}
	for _, key := range storedKeys(t, g.store, "") {
		if strings.HasPrefix(key, "keys/") || key == "pgcairn.json" {
			continue
		}
		_, _, err := get(t.Context(), g.r, key)
		require.NoError(t, err)
	}
}

func TestStateDirUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	g := newRig(t, true)
	var log bytes.Buffer
	o := repo.Options{Cipher: writeOnly(t), StateDir: filepath.Join(file, "below"), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	process(t, g.store, "a", o)
	assert.Contains(t, log.String(), "level=WARN")
	assert.Contains(t, log.String(), "cannot remember the data key")
	_, _, err := get(t.Context(), g.r, "a")
	require.NoError(t, err)
}

// Two processes of a host that make their first keys at one moment both write, and neither complains of the other.
func TestKeyRememberedByAnother(t *testing.T) {
	g := newRig(t, true)
	dir := t.TempDir()
	process(t, g.store, "a", repo.Options{Cipher: writeOnly(t), StateDir: dir})
	state := filepath.Join(dir, g.r.ID(), "data-key.json")
	require.FileExists(t, state)
	require.NoError(t, os.Remove(state))

	var log bytes.Buffer
	require.NoError(t, durable.WriteFile(state, 0o600, func(io.Writer) error {
		process(t, g.store, "b", repo.Options{
			Cipher: writeOnly(t), StateDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		return nil
	}))
	require.Empty(t, log.String())
	_, _, err := get(t.Context(), g.r, "b")
	require.NoError(t, err)
}

// A Repo makes one key, however many write at first.
func TestOneKeyForManyWriters(t *testing.T) {
	g := newRig(t, true)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := put(t.Context(), g.w, fmt.Sprint("object ", i), "", nil)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Len(t, storedKeys(t, g.store, "keys/"), 1)
}

func TestKeySwapped(t *testing.T) {
	g := newRig(t, true)
	process(t, g.store, "a", repo.Options{Cipher: writeOnly(t)})
	process(t, g.store, "b", repo.Options{Cipher: writeOnly(t)})
	a, b := keyOf(t, g.store, "a"), keyOf(t, g.store, "b")
	s := &replaced{Store: g.store, key: a, data: storedBytes(t, g.store, b)}
	_, _, err := get(t.Context(), g.reader(t, s), "a")
	requireCorrupt(t, err, a)
	require.ErrorContains(t, err, "another key")
}

func TestKeyMissing(t *testing.T) {
	g := newRig(t, true)
	process(t, g.store, "a", repo.Options{Cipher: writeOnly(t)})
	p, err := writePack(t.Context(), g.w, "pack", []byte("frame"))
	require.NoError(t, err)
	for _, key := range storedKeys(t, g.store, "keys/") {
		require.NoError(t, g.store.Delete(t.Context(), key))
	}
	r := g.reader(t, g.store)
	_, err = r.OpenObject(t.Context(), "a")
	requireCorrupt(t, err, keyOf(t, g.store, "a"))
	require.ErrorContains(t, err, "repo: open a: ")
	_, err = readPack(t.Context(), r, p)
	requireCorrupt(t, err, keyOf(t, g.store, "pack"))
}

// An object that is encrypted to a key of the repository, but not to the one it names.
func TestObjectOfAnotherKey(t *testing.T) {
	g := newRig(t, true)
	process(t, g.store, "a", repo.Options{Cipher: writeOnly(t)})
	process(t, g.store, "b", repo.Options{Cipher: writeOnly(t)})
	a, b := keyOf(t, g.store, "a"), keyOf(t, g.store, "b")
	// The reader is given b's key whichever it asks for, but as a's.
	r, err := repo.Open(t.Context(), g.store, &repo.Options{Cipher: lying{readOnlyCipher(t), g.store, a, b}})
	require.NoError(t, err)
	_, _, err = get(t.Context(), r, "a")
	requireCorrupt(t, err, "a")
}

// lying is a cipher that opens the key b when asked for a.
type lying struct {
	repo.Cipher

	s    repo.Store
	a, b string
}

func (l lying) OpenKey([]byte) (public, secret string, err error) {
	open := func(key string) (string, string) {
		body, err := l.s.Open(context.Background(), key, 0, -1)
		if err != nil {
			panic(err)
		}
		defer body.Close()
		var buf bytes.Buffer
		_, _ = buf.ReadFrom(body)
		public, secret, err := l.Cipher.OpenKey(buf.Bytes())
		if err != nil {
			panic(err)
		}
		return public, secret
	}
	public, _ = open(l.a)
	_, secret = open(l.b)
	return public, secret, nil
}

func TestWriteOnlyHost(t *testing.T) {
	g := newRig(t, true)
	ctx := t.Context()
	_, err := put(ctx, g.w, "a", "the label", []byte("content"))
	require.NoError(t, err)
	p, err := writePack(ctx, g.w, "pack", []byte("frame"))
	require.NoError(t, err)
	label, err := g.w.Label(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, "the label", string(label))

	_, openErr := g.w.OpenObject(ctx, "a")
	_, frontErr := g.w.OpenFront(ctx, "a", 1000)
	_, packErr := readPack(ctx, g.w, p)
	for _, err := range []error{openErr, frontErr, packErr} {
		var wrong *crypto.IdentityError
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, []string{testRecipient}, wrong.Recipients)
		assert.Zero(t, wrong.Tried)
		require.ErrorContains(t, err, keyOf(t, g.store, "a"))
		var corrupt *repo.CorruptError
		require.NotErrorAs(t, err, &corrupt)
		requireNoAnswerAtAll(t, err)
	}

	// And a host that only reads cannot write.
	_, err = put(ctx, g.r, "b", "", nil)
	require.ErrorIs(t, err, crypto.ErrNoRecipients)
	_, err = g.r.CreatePack(ctx, "b", nil)
	require.ErrorIs(t, err, crypto.ErrNoRecipients)
}

func TestWrongIdentity(t *testing.T) {
	g := newRig(t, true)
	_, err := put(t.Context(), g.w, "a", "", nil)
	require.NoError(t, err)
	identity, _, err := crypto.Generate()
	require.NoError(t, err)
	c, err := crypto.New(nil, identities(t, identity))
	require.NoError(t, err)
	r, err := repo.Open(t.Context(), g.store, &repo.Options{Cipher: c})
	require.NoError(t, err)
	_, err = r.OpenObject(t.Context(), "a")
	var wrong *crypto.IdentityError
	require.ErrorAs(t, err, &wrong)
	assert.Equal(t, 1, wrong.Tried)
	assert.Equal(t, []string{testRecipient}, wrong.Recipients)
}

// failing is a cipher whose keys fail as told. A plugin's program that is not installed is fs.ErrNotExist.
type failing struct {
	repo.Cipher

	err error
}

func (f failing) NewKey() (string, []byte, error)                 { return "", nil, f.err }
func (f failing) OpenKey([]byte) (public, secret string, e error) { return "", "", f.err }

// What a cipher fails with is no answer about objects.
func TestCipherFails(t *testing.T) {
	g := newRig(t, true)
	_, err := put(t.Context(), g.w, "a", "", nil)
	require.NoError(t, err)
	for _, cause := range []error{fs.ErrNotExist, fs.ErrExist, errors.New("a token is missing")} {
		r, err := repo.Open(t.Context(), g.store, &repo.Options{Cipher: failing{readOnlyCipher(t), fmt.Errorf("plugin: %w", cause)}})
		require.NoError(t, err)
		_, openErr := r.OpenObject(t.Context(), "a")
		_, putErr := put(t.Context(), r, "b", "", nil)
		for _, err := range []error{openErr, putErr} {
			require.ErrorContains(t, err, cause.Error())
			requireNoAnswerAtAll(t, err)
			var corrupt *repo.CorruptError
			require.NotErrorAs(t, err, &corrupt)
		}
	}
}

// A key object may be as large as many recipients make it, and no larger than it can be read again.
func TestManyRecipients(t *testing.T) {
	var to []age.Recipient
	id, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	for range 100 {
		to = append(to, id.Recipient())
	}
	many, err := crypto.New(to, []age.Identity{id})
	require.NoError(t, err)
	r, err := repo.Init(t.Context(), repotest.Mem(nil), &repo.Options{Cipher: many})
	require.NoError(t, err)
	_, err = put(t.Context(), r, "a", "", []byte("content"))
	require.NoError(t, err)
	_, content, err := get(t.Context(), r, "a")
	require.NoError(t, err)
	assert.Equal(t, "content", string(content))

	tooMany, err := crypto.New(append(to, append(to, to...)...), nil)
	require.NoError(t, err)
	s := repotest.Mem(nil)
	r, err = repo.Init(t.Context(), s, &repo.Options{Cipher: tooMany})
	require.NoError(t, err)
	_, err = put(t.Context(), r, "a", "", nil)
	require.ErrorContains(t, err, "too many recipients")
	assert.Equal(t, []string{"pgcairn.json"}, storedKeys(t, s, ""))
}

// A driver that has tried twice answers that the name is taken, by itself.
func TestKeyWrittenTwice(t *testing.T) {
	g := newRig(t, true)
	twice := repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpCommit, Key: "keys/*", Do: repotest.FailAfter(fs.ErrExist)})
	process(t, twice, "a", repo.Options{Cipher: writeOnly(t)})
	_, _, err := get(t.Context(), g.r, "a")
	require.NoError(t, err)

	// A key object that is there and is another is no reason to think that a was written.
	taken := repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpCommit, Key: "keys/*", Do: repotest.Fail(fs.ErrExist)})
	r, err := repo.Open(t.Context(), taken, &repo.Options{Cipher: writeOnly(t)})
	require.NoError(t, err)
	_, err = put(t.Context(), r, "b", "", nil)
	require.Error(t, err)
	requireNoAnswerAtAll(t, err)
}

// The id of a data key is half of the SHA-256 of its public half.
func TestKeyID(t *testing.T) {
	g := newRig(t, true)
	dir := t.TempDir()
	process(t, g.store, "a", repo.Options{Cipher: writeOnly(t), StateDir: dir})
	b, err := os.ReadFile(filepath.Join(dir, g.w.ID(), "data-key.json"))
	require.NoError(t, err)
	var state struct{ Public string }
	require.NoError(t, json.Unmarshal(b, &state))
	sum := sha256.Sum256([]byte(state.Public))
	assert.Equal(t, "keys/"+hex.EncodeToString(sum[:16])+".age", keyOf(t, g.store, "a"))
}

// Whoever waits for a request of another about a data key waits no longer than his own context allows, and who needs no
// answer of that request does not wait: reads not for a write, nor for the key of another object.
func TestKeyringWaitsAreGivenUp(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault repotest.Fault
		first func(ctx context.Context, t *testing.T, r *repo.Repo) error // its request stalls
		after func(ctx context.Context, t *testing.T, r *repo.Repo) error // waits for the same
	}{
		{"write", repotest.Fault{Op: repotest.OpList, Nth: 1, Do: repotest.Stall()}, writes("c"), writes("d")},
		{"read", repotest.Fault{Op: repotest.OpOpen, Key: "keys/*", Nth: 2, Do: repotest.Stall()}, reads("b"), reads("b")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who, state := []person{newPerson(t)}, t.TempDir()
			c := cipherOfThem(t, who, who)
			store := newSafe(t, 0, who...).store
			process(t, store, "a", repo.Options{Cipher: c, StateDir: state})
			process(t, store, "b", repo.Options{Cipher: c}) // with a key of its own
			synctest.Test(t, func(t *testing.T) {
				r, err := repo.Open(t.Context(), repotest.Faulty(store, tt.fault), &repo.Options{Cipher: c, StateDir: state})
				require.NoError(t, err)
				require.NoError(t, reads("a")(t.Context(), t, r))
				patient, end := context.WithCancel(t.Context())
				first := make(chan error)
				go func() { first <- tt.first(patient, t, r) }()
				synctest.Wait()

				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				require.NoError(t, reads("a")(ctx, t, r))
				require.Zero(t, time.Since(begun))
				err = tt.after(ctx, t, r)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, fs.ErrNotExist)
				require.Equal(t, time.Second, time.Since(begun))
				end()
				require.ErrorIs(t, <-first, context.Canceled)
				require.NoError(t, tt.after(t.Context(), t, r), "the lock is free")
			})
		})
	}
}

func writes(key string) func(context.Context, *testing.T, *repo.Repo) error {
	return func(ctx context.Context, _ *testing.T, r *repo.Repo) error {
		_, err := put(ctx, r, key, "", []byte(key))
		return err
	}
}

func reads(key string) func(context.Context, *testing.T, *repo.Repo) error {
	return func(ctx context.Context, t *testing.T, r *repo.Repo) error {
		_, content, err := get(ctx, r, key)
		if err == nil {
			require.Equal(t, key, string(content))
		}
		return err
	}
}
