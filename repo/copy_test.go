package repo_test

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// copyTo makes a repository to copy to, and opens it to read.
func copyTo(t *testing.T, s repo.Store, encrypted bool) (to, reader *repo.Repo) {
	t.Helper()
	var all repo.Cipher
	o := &repo.Options{Now: testNow}
	if encrypted {
		o.Cipher = writeOnly(t)
		var err error
		all, err = crypto.New(nil, identities(t, testIdentity))
		require.NoError(t, err)
	}
	to, err := repo.Init(t.Context(), s, o)
	require.NoError(t, err)
	reader, err = repo.Open(t.Context(), s, &repo.Options{Cipher: all, Now: testNow})
	require.NoError(t, err)
	return to, reader
}

func TestCopyObject(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		long := strings.Repeat("a cairn marks the way back\n", 100_000)
		for label, content := range map[string]string{"": "", "a label": "short", "another": long} {
			key := "notes/" + label + "x"
			o := &repo.PutOptions{Notes: func() ([]byte, error) { return []byte("notes on " + label), nil }}
			if label != "" {
				o.Label = func() ([]byte, error) { return []byte(label), nil }
			}
			_, err := g.w.Put(t.Context(), key, o, func(w io.Writer) error {
				_, err := io.WriteString(w, content)
				return err
			})
			require.NoError(t, err)
			for _, encrypted := range []bool{false, true} {
				store := repotest.Mem(nil)
				to, reader := copyTo(t, store, encrypted)
				passed := 0
				info, err := repo.CopyObject(t.Context(), g.r, to, key, &repo.CopyOptions{
					Check: func(obj *repo.Object) error {
						require.Equal(t, label, string(obj.Label()))
						got, err := io.ReadAll(obj)
						require.Equal(t, content, string(got))
						return err
					},
					Pass: func(n int) error {
						passed += n
						return nil
					},
					Turn: func() error {
						require.Empty(t, storedKeys(t, store, "notes/"))
						return nil
					},
				})
				require.NoError(t, err)
				require.Equal(t, int64(len(storedBytes(t, store, key))), info.Size)
				require.Positive(t, passed)
				gotLabel, got, err := get(t.Context(), reader, key)
				require.NoError(t, err)
				require.Equal(t, label, gotLabel)
				require.Equal(t, content, string(got))
				notes, err := reader.Notes(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, "notes on "+label, string(notes))
				if !encrypted && !g.encrypted {
					require.Equal(t, storedBytes(t, g.store, key), storedBytes(t, store, key))
				}
				_, err = repo.CopyObject(t.Context(), g.r, to, key, nil)
				if label == "" && !encrypted {
					require.NoError(t, err, "the same bytes: an answer may have been lost")
				} else {
					require.ErrorIs(t, err, fs.ErrExist)
				}
			}
		}
	})
}

func TestCopyPack(t *testing.T) {
	t.Parallel()
	const key = "packs/20261121T101530Z-9f3c2a/00000001"
	bothModes(t, func(t *testing.T, g *rig) {
		p, err := writePack(t.Context(), g.w, key, []byte("one"), []byte("two"))
		require.NoError(t, err)
		for _, encrypted := range []bool{false, true} {
			store := repotest.Mem(nil)
			to, reader := copyTo(t, store, encrypted)
			got, err := repo.CopyPack(t.Context(), g.r, to, p, nil)
			require.NoError(t, err)
			require.Equal(t, int64(len(storedBytes(t, store, key))), got.Size)
			require.Equal(t, p.Frames, got.Frames)
			if encrypted == g.encrypted {
				require.Equal(t, p, got)
			}
			var frames []string
			require.NoError(t, reader.ReadPack(t.Context(), got, func(_ int, raw []byte) error {
				frames = append(frames, string(raw))
				return nil
			}))
			require.Equal(t, []string{"one", "two"}, frames)

			// One that is not what the manifest says.
			other := p
			other.Frames = append([]repo.Frame(nil), p.Frames...)
			other.Frames[1].Hash[0] ^= 1
			to, _ = copyTo(t, repotest.Mem(nil), encrypted)
			_, err = repo.CopyPack(t.Context(), g.r, to, other, nil)
			var corrupt *repo.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Empty(t, storedKeys(t, to.Store(), "packs/"))
		}
	})
}

func TestCopyRecord(t *testing.T) {
	t.Parallel()
	g := newRig(t, false)
	require.NoError(t, g.w.CreateRecord(t.Context(), "systems/1", map[string]int{"a": 1}))
	to, _ := copyTo(t, repotest.Mem(nil), true)
	for range 2 { // again: it is the same
		require.NoError(t, repo.CopyRecord(t.Context(), g.w, to, "systems/1"))
	}
	require.Equal(t, storedBytes(t, g.store, "systems/1"), storedBytes(t, to.Store(), "systems/1"))
	require.ErrorIs(t, repo.CopyRecord(t.Context(), g.w, to, "systems/2"), fs.ErrNotExist)
	other := newRig(t, false)
	require.NoError(t, other.w.CreateRecord(t.Context(), "systems/1", map[string]int{"a": 2}))
	require.ErrorIs(t, repo.CopyRecord(t.Context(), other.w, to, "systems/1"), fs.ErrExist)

	rotten := repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpOpen, Key: "systems/*", Do: repotest.Flip(6)})
	from := g.reader(t, rotten)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, repo.CopyRecord(t.Context(), from, to, "systems/1"), &corrupt)
}

// Each flipped bit and each length is noticed, and nothing comes of it.
func TestCopyObjectDamaged(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		const key = "notes/first"
		info, err := put(t.Context(), g.w, key, "a label", []byte("a cairn marks the way back\n"))
		require.NoError(t, err)
		for at := range info.Size {
			for _, effect := range []repotest.Effect{repotest.Flip(at), repotest.Truncate(at), repotest.Cut(at)} {
				from := g.reader(t, repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: effect}))
				to, _ := copyTo(t, repotest.Mem(nil), false)
				_, err := repo.CopyObject(t.Context(), from, to, key, nil)
				require.Error(t, err)
				var corrupt *repo.CorruptError
				require.Equal(t, effect != repotest.Cut(at), errors.As(err, &corrupt), "an outage is no damage: %v", err)
				require.NotErrorIs(t, err, fs.ErrNotExist)
				require.Empty(t, storedKeys(t, to.Store(), "notes/"))
			}
		}
	})
}

// What fails in the other repository, or in a hook, is not taken for damage of the source, nor for its absence.
func TestCopyObjectElsewhere(t *testing.T) {
	t.Parallel()
	g := newRig(t, false)
	const key = "notes/first"
	_, err := put(t.Context(), g.w, key, "a label", []byte(strings.Repeat("a cairn marks the way back\n", 100_000)))
	require.NoError(t, err)
	for n := 1; ; n++ {
		mem := repotest.Mem(nil)
		copyTo(t, mem, false)
		s := repotest.Faulty(mem, repotest.Fault{Key: "notes/*", Nth: n, Do: repotest.Fail(fs.ErrNotExist)})
		to, err := repo.Open(t.Context(), s, &repo.Options{Now: testNow})
		require.NoError(t, err)
		_, err = repo.CopyObject(t.Context(), g.r, to, key, nil)
		if s.Struck() == 0 {
			require.NoError(t, err)
			require.Greater(t, n, 3)
			break
		}
		var corrupt *repo.CorruptError
		require.Error(t, err)
		require.NotErrorAs(t, err, &corrupt)
		require.NotErrorIs(t, err, fs.ErrNotExist)
		require.Empty(t, storedKeys(t, mem, "notes/"))
	}
	for _, o := range []repo.CopyOptions{
		{Check: func(*repo.Object) error { return io.ErrClosedPipe }},
		{Pass: func(int) error { return io.ErrClosedPipe }},
		{Turn: func() error { return io.ErrClosedPipe }},
	} {
		to, _ := copyTo(t, repotest.Mem(nil), true)
		_, err := repo.CopyObject(t.Context(), g.r, to, key, &o)
		require.ErrorIs(t, err, io.ErrClosedPipe)
		var corrupt *repo.CorruptError
		require.NotErrorAs(t, err, &corrupt)
		require.Empty(t, storedKeys(t, to.Store(), "notes/"))
	}
	to, _ := copyTo(t, repotest.Mem(nil), false)
	_, err = repo.CopyObject(t.Context(), g.r, to, "notes/second", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
