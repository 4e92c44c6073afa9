package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func putNotes(ctx context.Context, r *repo.Repo, key string, content, notes []byte) error {
	o := &repo.PutOptions{Notes: func() ([]byte, error) { return notes, nil }}
	_, err := r.Put(ctx, key, o, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	return err
}

func TestNotes(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		content := noise(3<<20, 7)
		for name, want := range map[string][]byte{
			"none": nil, "short": []byte("n"), "pages": pages(2 << 20), "noise": noise(5<<20/2, 3), "zeros": make([]byte, 1<<20),
		} {
			require.NoError(t, putNotes(t.Context(), g.w, name, content, want))
			requireNotes(t, g, name, want)
			_, back, err := get(t.Context(), g.r, name)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, back), name)
		}
		_, err := g.r.Notes(t.Context(), "missing")
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

// requireNotes requires that the notes of an object are what they should be, and read by few requests.
func requireNotes(t *testing.T, g *rig, name string, want []byte) {
	t.Helper()
	requests := 0
	r := g.reader(t, repo.Observe(g.store, func(op repo.Op) {
		if op.Key == name && (op.Name == "open" || op.Name == "stat") {
			requests++
		}
	}))
	got, err := r.Notes(t.Context(), name)
	require.NoError(t, err, name)
	require.True(t, bytes.Equal(want, got), name)
	require.LessOrEqual(t, requests, 4, name)
}

// A pack may have notes as well, which leave its frames, and what reads them, as they are.
func TestNotesOfPacks(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		frames := [][]byte{pages(repo.FrameSize), noise(1000, 1)}
		plain, err := writePack(t.Context(), g.w, "plain", frames...)
		require.NoError(t, err)
		for name, want := range map[string][]byte{"none": nil, "short": []byte("n"), "noise": noise(5<<20/2, 3)} {
			p, err := writeNotedPack(t.Context(), g.w, name, want, frames...)
			require.NoError(t, err)
			require.Equal(t, plain.Frames, p.Frames)
			requireNotes(t, g, name, want)
			back, err := readPack(t.Context(), g.r, p)
			require.NoError(t, err)
			require.Equal(t, frames, back)
		}
		_, err = writeNotedPack(t.Context(), g.w, "long", make([]byte, 16<<20+1), frames...)
		require.Error(t, err)
		_, err = g.store.Stat(t.Context(), "long")
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

// Whatever byte of a pack with notes is another, or missing, whoever reads its frames notices.
func TestDamagedPackWithNotes(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		p, err := writeNotedPack(t.Context(), g.w, "a", []byte("some notes on it"), []byte("a frame"))
		require.NoError(t, err)
		whole := storedBytes(t, g.store, "a")
		for at := range whole {
			b := bytes.Clone(whole)
			b[at] ^= 1 << (at % 8)
			_, err := readPack(t.Context(), g.reader(t, with(t, g.store, "a", b)), p)
			require.Error(t, err, "byte %d", at)
			requireNoAnswerAtAll(t, err)
			_, err = readPack(t.Context(), g.reader(t, with(t, g.store, "a", whole[:at])), p)
			require.Error(t, err, "up to byte %d", at)
			requireNoAnswerAtAll(t, err)
		}
	})
}

// An object of nothing but notes, and of nothing at all.
func TestNotesOfEmptyContent(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		for name, want := range map[string]string{"notes": "some", "nothing": ""} {
			require.NoError(t, putNotes(t.Context(), g.w, name, nil, []byte(want)))
			got, err := g.r.Notes(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, want, string(got))
			_, content, err := get(t.Context(), g.r, name)
			require.NoError(t, err)
			require.Empty(t, content)
		}
	})
}

func TestNotesThatCannotBeMade(t *testing.T) {
	t.Parallel()
	g := newRig(t, false)
	broken := errors.New("broken")
	for name, notes := range map[string]func() ([]byte, error){
		"broken": func() ([]byte, error) { return nil, broken },
		"long":   func() ([]byte, error) { return make([]byte, 16<<20+1), nil },
	} {
		_, err := g.w.Put(t.Context(), name, &repo.PutOptions{Notes: notes}, func(io.Writer) error { return nil })
		require.Error(t, err)
		_, err = g.store.Stat(t.Context(), name)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

// Every flipped bit of the notes is noticed without reading the content, and every truncation.
func TestDamagedNotes(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		notes := []byte("some notes on it")
		require.NoError(t, putNotes(t.Context(), g.w, "a", []byte("content"), notes))
		whole := storedBytes(t, g.store, "a")
		for at := range whole {
			b := bytes.Clone(whole)
			b[at] ^= 1 << (at % 8)
			got, err := g.reader(t, with(t, g.store, "a", b)).Notes(t.Context(), "a")
			if err == nil {
				// The content, its head and the sum of it all are not read.
				require.True(t, string(got) == string(notes) || len(got) == 0, "byte %d: %q", at, got)
				continue
			}
			requireNoAnswerAtAll(t, err)
		}
		for n := range whole {
			got, err := g.reader(t, with(t, g.store, "a", whole[:n])).Notes(t.Context(), "a")
			if err != nil {
				requireNoAnswerAtAll(t, err)
			}
			require.NotEqual(t, string(notes), string(got))
		}
		// Another object's notes are not taken for its own.
		_, err := g.reader(t, with(t, g.store, "b", whole)).Notes(t.Context(), "b")
		var corrupt *repo.CorruptError
		require.ErrorAs(t, err, &corrupt)
	})
}

// A store that fails while notes are read is not taken for damage, nor for an answer.
func TestNotesOfAStoreThatFails(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		require.NoError(t, putNotes(t.Context(), g.w, "a", noise(1<<20, 1), []byte("notes")))
		broken := errors.New("broken")
		for _, op := range []repotest.Operation{repotest.OpStat, repotest.OpOpen, repotest.OpRead} {
			for nth := 1; nth <= 2; nth++ {
				r := g.reader(t, repotest.Faulty(g.store, repotest.Fault{Op: op, Key: "a", Nth: nth, Do: repotest.Fail(broken)}))
				_, err := r.Notes(t.Context(), "a")
				if err == nil {
					require.Equal(t, 2, nth)
					continue
				}
				require.ErrorIs(t, err, broken)
				requireNoAnswerAtAll(t, err)
				var corrupt *repo.CorruptError
				require.NotErrorAs(t, err, &corrupt)
			}
		}
	})
}

// Stock zstd passes over notes.
func TestStockZstdPassesOverNotes(t *testing.T) {
	t.Parallel()
	g := newRig(t, false)
	content := pages(100 << 10)
	require.NoError(t, putNotes(t.Context(), g.w, "a", content, []byte("notes")))
	path := filepath.Join(t.TempDir(), "a.zst")
	require.NoError(t, os.WriteFile(path, storedBytes(t, g.store, "a"), 0o600))
	out, err := exec.CommandContext(t.Context(), "zstd", "-dc", path).Output()
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, out))
}

// with is a copy of a store that holds other bytes at a key.
func with(t *testing.T, s repo.Store, key string, b []byte) repo.Store {
	t.Helper()
	c := repotest.Mem(nil)
	for _, k := range storedKeys(t, s, "") {
		if k != key {
			storeBytes(t, c, k, storedBytes(t, s, k))
		}
	}
	storeBytes(t, c, key, b)
	return c
}
