package repo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// The keys of the tests and of the golden repositories.
const (
	testIdentity  = "AGE-SECRET-KEY-184JMZMVQH3E6U0PSL869004Y3U2NYV7R30EU99CSEDNPH02YUVFSZW44VU"
	testRecipient = "age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm"
)

var testTime = time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)

func testNow() time.Time { return testTime }

// recipients and identities parse texts as crypto.New wants them.
func recipients(t testing.TB, texts ...string) []age.Recipient {
	t.Helper()
	r, err := age.ParseRecipients(strings.NewReader(strings.Join(texts, "\n")))
	require.NoError(t, err)
	return r
}

func identities(t testing.TB, texts ...string) []age.Identity {
	t.Helper()
	i, err := age.ParseIdentities(strings.NewReader(strings.Join(texts, "\n")))
	require.NoError(t, err)
	return i
}

// writeOnly is the cipher of a database host.
func writeOnly(t testing.TB) repo.Cipher {
	t.Helper()
	c, err := crypto.New(recipients(t, testRecipient), nil)
	require.NoError(t, err)
	return c
}

// readOnlyCipher is that of a host that restores.
func readOnlyCipher(t testing.TB) repo.Cipher {
	t.Helper()
	c, err := crypto.New(nil, identities(t, testIdentity))
	require.NoError(t, err)
	return c
}

// rig is a repository and two hosts that use it: one writes and, when it is encrypted, cannot read; the other the
// reverse.
type rig struct {
	encrypted bool
	store     repo.Store
	w, r      *repo.Repo
}

func newRig(t testing.TB, encrypted bool) *rig {
	t.Helper()
	g := &rig{encrypted: encrypted, store: repotest.Mem(nil)}
	var c repo.Cipher
	if encrypted {
		c = writeOnly(t)
	}
	var err error
	g.w, err = repo.Init(t.Context(), g.store, &repo.Options{Cipher: c, Now: testNow})
	require.NoError(t, err)
	g.r = g.reader(t, g.store)
	return g
}

// reader opens the repository in s, which holds what the rig's store does, to read it.
func (g *rig) reader(t testing.TB, s repo.Store) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), s, g.readOptions(t))
	require.NoError(t, err)
	return r
}

func (g *rig) readOptions(t testing.TB) *repo.Options {
	t.Helper()
	o := &repo.Options{Now: testNow}
	if g.encrypted {
		o.Cipher = readOnlyCipher(t)
	}
	return o
}

// bothModes runs a test with an unencrypted and an encrypted repository.
func bothModes(t *testing.T, test func(t *testing.T, g *rig)) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { test(t, newRig(t, false)) })
	t.Run("encrypted", func(t *testing.T) { test(t, newRig(t, true)) })
}

// put writes an object in one go.
func put(ctx context.Context, r *repo.Repo, key string, label string, content []byte) (repo.Info, error) {
	o := &repo.PutOptions{Label: func() ([]byte, error) { return []byte(label), nil }}
	return r.Put(ctx, key, o, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// get reads an object to its end.
func get(ctx context.Context, r *repo.Repo, key string) (label string, content []byte, err error) {
	o, err := r.OpenObject(ctx, key)
	if err != nil {
		return "", nil, err
	}
	defer o.Close()
	content, err = io.ReadAll(o)
	return string(o.Label()), content, err
}

// writePack writes a pack of frames.
func writePack(ctx context.Context, r *repo.Repo, key string, frames ...[]byte) (repo.Pack, error) {
	return writePackOf(ctx, r, key, "", frames...)
}

// compressions are all there are.
var compressions = []repo.Compression{repo.ZstdFastest, repo.Zstd, repo.ZstdBetter, repo.S2, repo.Uncompressed}

// writePackOf writes a pack of frames of some compression.
func writePackOf(ctx context.Context, r *repo.Repo, key string, c repo.Compression, frames ...[]byte) (repo.Pack, error) {
	w, err := r.CreatePack(ctx, key, &repo.PackOptions{Compression: c})
	if err != nil {
		return repo.Pack{}, err
	}
	defer w.Close()
	for _, f := range frames {
		if err := w.Append(f); err != nil {
			return repo.Pack{}, err
		}
	}
	return w.Commit()
}

// writeNotedPack writes a pack that has notes.
func writeNotedPack(ctx context.Context, r *repo.Repo, key string, notes []byte, frames ...[]byte) (repo.Pack, error) {
	w, err := r.CreatePack(ctx, key, nil)
	if err != nil {
		return repo.Pack{}, err
	}
	defer w.Close()
	for _, f := range frames {
		if err := w.Append(f); err != nil {
			return repo.Pack{}, err
		}
	}
	return w.CommitWithNotes(notes)
}

// readPack reads all frames of a pack.
func readPack(ctx context.Context, r *repo.Repo, p repo.Pack) (frames [][]byte, err error) {
	err = r.ReadPack(ctx, p, func(i int, raw []byte) error {
		if i != len(frames) {
			panic("frames out of order")
		}
		frames = append(frames, bytes.Clone(raw))
		return nil
	})
	return frames, err
}

// storedBytes returns an object as it is stored.
func storedBytes(t testing.TB, s repo.Store, key string) []byte {
	t.Helper()
	body, err := s.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	require.NoError(t, err)
	return b
}

// storedKeys returns the keys that begin with prefix.
func storedKeys(t testing.TB, s repo.Store, prefix string) []string {
	t.Helper()
	keys := []string{}
	for info, err := range s.List(t.Context(), prefix) {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

// replaced is a store one of whose objects has other bytes.
type replaced struct {
	repo.Store

	key  string
	data []byte
}

func (s *replaced) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if key != s.key {
		return s.Store.Open(ctx, key, off, n)
	}
	data := s.data[min(off, int64(len(s.data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// switched is a store that can be cut off: then its calls fail, or wait for the end of their context.
type switched struct {
	repo.Store

	down  atomic.Bool
	hangs bool
}

func (s *switched) fail(ctx context.Context) error {
	if !s.down.Load() {
		return nil
	}
	if s.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return repotest.ErrInjected
}

func (s *switched) Create(ctx context.Context, key string) (repo.Writer, error) {
	if err := s.fail(ctx); err != nil {
		return nil, err
	}
	return s.Store.Create(ctx, key)
}

func (s *switched) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := s.fail(ctx); err != nil {
		return nil, err
	}
	return s.Store.Open(ctx, key, off, n)
}

// overwriting is a store that lets a second writer win.
type overwriting struct{ repo.Store }

func (s overwriting) Create(ctx context.Context, key string) (repo.Writer, error) {
	if err := s.Delete(ctx, key); err != nil {
		return nil, err
	}
	return s.Store.Create(ctx, key)
}

// requireCorrupt demands that an error says which object is corrupt, and is no answer on whether it exists.
func requireCorrupt(t testing.TB, err error, key string) {
	t.Helper()
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, key, corrupt.Key)
	require.Contains(t, err.Error(), key)
	requireNoAnswerAtAll(t, err)
}

// requireOutage demands that an error is that of the store, and says nothing on whether objects exist or are sound.
func requireOutage(t testing.TB, err error) {
	t.Helper()
	require.ErrorIs(t, err, repotest.ErrInjected)
	var corrupt *repo.CorruptError
	require.NotErrorAs(t, err, &corrupt)
	requireNoAnswerAtAll(t, err)
}

func requireNoAnswerAtAll(t testing.TB, err error) {
	t.Helper()
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, fs.ErrExist)
}

// noise returns n bytes that look random and depend on nothing but n and seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, 0, n+8)
	for x := seed*0x9e3779b97f4a7c15 + 1; len(b) < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b[:n]
}

// pages returns n bytes that compress about as the pages of a table do: rows of running numbers, words and random hex
// digits between page headers.
func pages(n int) []byte {
	const digits = "0123456789abcdef"
	words := strings.Fields("account balance cairn customer delivered email invoice order paid pending shipped summit")
	random := noise(n+1024, 1)
	b := make([]byte, 0, n+1024)
	for row := uint32(0); len(b) < n; row++ {
		if len(b)%8192 < 160 {
			b = append(b, 0, 0, 0, 0, byte(row>>8), byte(row), 0x5a, 0x01, 0, 0, 4, 0, 0, 0x20, 0, 0x20, 4, 0x20, 0, 0, 0, 0)
		}
		b = binary.LittleEndian.AppendUint32(b, row)
		b = append(b, 0, 0, 0, 0, 7, 0, 2, 9, 24, 0)
		for _, r := range random[len(b) : len(b)+6] {
			b = append(b, words[int(r)%len(words)]...)
			b = append(b, ' ')
		}
		for _, r := range random[len(b) : len(b)+12] {
			b = append(b, digits[r>>4], digits[r&15])
		}
	}
	return b[:n]
}

// craft makes the bytes of an unencrypted object the way repo/FORMAT.md tells, of parts that stand between head and
// tail.
func craft(key, label string, table []byte, parts ...[]byte) []byte {
	frame := func(magic uint32, payload []byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, magic)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
		return append(b, payload...)
	}
	head := []byte("pgcairn1")
	head = binary.AppendUvarint(head, uint64(len(key)))
	head = append(append(head, key...), label...)
	b := frame(0x184D2A50, append(head, sumOf(head)...))
	b = append(b, bytes.Join(parts, nil)...)
	b = append(b, frame(0x184D2A51, append(bytes.Clone(table), make([]byte, 16)...))...)
	b = b[:len(b)-16]
	return append(b, sumOf(b)...)
}

// tableOf is the table of a pack's frames that stands in its tail.
func tableOf(p repo.Pack) []byte {
	var b []byte
	for _, f := range p.Frames {
		b = binary.BigEndian.AppendUint32(b, uint32(f.Raw))
		b = binary.BigEndian.AppendUint32(b, uint32(f.Stored))
		b = append(b, map[repo.Codec]byte{repo.CodecZstd: 1, repo.CodecS2: 2}[f.Codec])
		b = append(b, f.Hash[:]...)
	}
	return b
}

// sumOf is the XXH3-128 of b in canonical form.
func sumOf(b []byte) []byte {
	h := xxh3.Hash128(b).Bytes()
	return h[:]
}

// compress makes a zstd frame.
func compress(t testing.TB, raw []byte, o ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, o...)
	require.NoError(t, err)
	return e.EncodeAll(raw, nil)
}

// storeBytes makes an object of bytes as they are.
func storeBytes(t testing.TB, s repo.Store, key string, b []byte) {
	t.Helper()
	w, err := s.Create(t.Context(), key)
	require.NoError(t, err)
	defer w.Close()
	_, err = w.Write(b)
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
}
