package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestPackRoundTrip(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		for name, frames := range map[string][][]byte{
			"none":      nil,
			"one byte":  {{1}},
			"odd sizes": {pages(repo.FrameSize), pages(1), pages(repo.FrameSize - 1), noise(repo.FrameSize, 1), make([]byte, repo.FrameSize), noise(10, 2)},
		} {
			p, err := writePack(t.Context(), g.w, name, frames...)
			require.NoError(t, err)
			stat, err := g.store.Stat(t.Context(), name)
			require.NoError(t, err)
			assert.Equal(t, stat.Size, p.Size)
			assert.Equal(t, name, p.Key)
			require.Len(t, p.Frames, len(frames))
			for i, f := range p.Frames {
				assert.Equal(t, len(frames[i]), f.Raw)
				assert.Equal(t, repo.HashOf(frames[i]), f.Hash)
				assert.Equal(t, repo.CodecZstd, f.Codec)
			}
			require.NoError(t, p.Check())

			// A manifest keeps the description as JSON.
			b, err := json.Marshal(p)
			require.NoError(t, err)
			var again repo.Pack
			require.NoError(t, json.Unmarshal(b, &again))
			require.Equal(t, p, again)

			got, err := readPack(t.Context(), g.r, again)
			require.NoError(t, err)
			require.Len(t, got, len(frames))
			for i := range frames {
				require.True(t, bytes.Equal(frames[i], got[i]), i)
			}
		}
	})
}

func TestPackWriter(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		w, err := g.w.CreatePack(t.Context(), "a", nil)
		require.NoError(t, err)
		require.ErrorContains(t, w.Append(nil), "0 bytes")
		require.ErrorContains(t, w.Append(make([]byte, repo.FrameSize+1)), "1048577 bytes")
		before := w.Size()
		require.NoError(t, w.Append(noise(1000, 1)))
		assert.Greater(t, w.Size(), before+900)
		_, err = g.store.Stat(t.Context(), "a")
		require.ErrorIs(t, err, fs.ErrNotExist, "not before Commit")
		p, err := w.Commit()
		require.NoError(t, err)
		_, err = w.Commit()
		require.Error(t, err)
		require.NotErrorIs(t, err, fs.ErrExist)
		require.Error(t, w.Append([]byte("more")))
		require.NoError(t, w.Close())
		_, err = readPack(t.Context(), g.r, p)
		require.NoError(t, err)

		w, err = g.w.CreatePack(t.Context(), "b", nil)
		require.NoError(t, err)
		require.NoError(t, w.Append([]byte("frame")))
		require.NoError(t, w.Close())
		_, err = w.Commit()
		require.Error(t, err)
		_, err = g.store.Stat(t.Context(), "b")
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

func TestPackFull(t *testing.T) {
	g := newRig(t, false)
	w, err := g.w.CreatePack(t.Context(), "large", nil)
	require.NoError(t, err)
	defer w.Close()
	frames := 0
	for !w.Full() {
		require.NoError(t, w.Append(noise(repo.FrameSize, uint64(frames))))
		frames++
	}
	assert.Equal(t, 14, frames)
	assert.InDelta(t, 14<<20, w.Size(), 10_000)

	w, err = g.w.CreatePack(t.Context(), "many", nil)
	require.NoError(t, err)
	defer w.Close()
	for i := range 8192 {
		require.False(t, w.Full())
		require.NoError(t, w.Append([]byte{byte(i)}))
	}
	assert.True(t, w.Full())
	require.ErrorContains(t, w.Append([]byte{1}), "8192 frames", "it could not be read again")
	p, err := w.Commit()
	require.NoError(t, err)
	got, err := readPack(t.Context(), g.r, p)
	require.NoError(t, err)
	assert.Len(t, got, 8192)
}

// A frame that went wrong spoils the pack, also when its writer goes on.
func TestPackAppendFails(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		for n := 1; n < 100; n++ {
			s := repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpWrite, Key: "a", Nth: n, Do: repotest.Cut(0)})
			r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: cipherOf(t, g)})
			require.NoError(t, err)
			w, err := r.CreatePack(t.Context(), "a", nil)
			if err != nil {
				requireOutage(t, err)
				continue
			}
			for i := range 3 {
				_ = w.Append(noise(100_000, uint64(i)))
			}
			_, err = w.Commit()
			if s.Struck() == 0 {
				require.NoError(t, err)
				return
			}
			requireOutage(t, err)
			_, err = w.Commit()
			require.Error(t, err)
			require.NoError(t, w.Close())
			_, err = g.store.Stat(t.Context(), "a")
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		t.Fatal("too many writes")
	})
}

func cipherOf(t *testing.T, g *rig) repo.Cipher {
	t.Helper()
	if !g.encrypted {
		return nil
	}
	return writeOnly(t)
}

func TestPackRace(t *testing.T) {
	g := newRig(t, false)
	const racers = 16
	var (
		packs [racers]repo.Pack
		errs  [racers]error
		wg    sync.WaitGroup
	)
	for i := range racers {
		wg.Go(func() { packs[i], errs[i] = writePack(t.Context(), g.w, "a", noise(1000, uint64(i))) })
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		if err != nil {
			require.ErrorIs(t, err, fs.ErrExist)
			_, err = readPack(t.Context(), g.r, repo.Pack{Key: "a", Frames: []repo.Frame{{Raw: 1000, Stored: 1000, Codec: repo.CodecZstd, Hash: repo.HashOf(noise(1000, uint64(i)))}}})
			requireCorrupt(t, err, "a")
			continue
		}
		won++
		_, err = readPack(t.Context(), g.r, packs[i])
		require.NoError(t, err)
	}
	assert.Equal(t, 1, won)
}

// Several packs are written and read beside each other.
func TestPacksInParallel(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				frames := [][]byte{noise(200_000, uint64(i)), pages(300_000 + i)}
				p, err := writePack(t.Context(), g.w, fmt.Sprint("pack ", i), frames...)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := readPack(t.Context(), g.r, p)
				if err != nil || !bytes.Equal(bytes.Join(frames, nil), bytes.Join(got, nil)) {
					t.Error("it is not what was written", err)
				}
			})
		}
		wg.Wait()
	})
}

func TestReadPackFails(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		ctx := t.Context()
		p, err := writePack(ctx, g.w, "a", pages(1000), pages(2000))
		require.NoError(t, err)

		missing := p
		missing.Key = "b"
		_, err = readPack(ctx, g.r, missing)
		require.ErrorIs(t, err, fs.ErrNotExist)

		err = g.r.ReadPack(ctx, p, func(i int, _ []byte) error {
			if i == 1 {
				return errBoom
			}
			return nil
		})
		require.Equal(t, errBoom, err)

		cancelled, cancel := context.WithCancel(ctx)
		err = g.r.ReadPack(cancelled, p, func(int, []byte) error { cancel(); return nil })
		if err != nil { // the rest may have been read already
			require.ErrorIs(t, err, context.Canceled)
		}

		// A description of other frames than the pack's, as a manifest that lies might hold.
		for name, change := range map[string]func(p *repo.Pack){
			"raw size":     func(p *repo.Pack) { p.Frames[0].Raw++ },
			"stored size":  func(p *repo.Pack) { p.Frames[0].Stored++ },
			"hash":         func(p *repo.Pack) { p.Frames[1].Hash[15] ^= 1 },
			"fewer":        func(p *repo.Pack) { p.Frames = p.Frames[:1] },
			"none":         func(p *repo.Pack) { p.Frames = nil },
			"more":         func(p *repo.Pack) { p.Frames = append(p.Frames, p.Frames[0]) },
			"order":        func(p *repo.Pack) { p.Frames[0], p.Frames[1] = p.Frames[1], p.Frames[0] },
			"codec":        func(p *repo.Pack) { p.Frames[0].Codec = repo.CodecS2 },
			"no codec":     func(p *repo.Pack) { p.Frames[0].Codec = "" },
			"empty frame":  func(p *repo.Pack) { p.Frames[0].Raw = 0 },
			"large frame":  func(p *repo.Pack) { p.Frames[0].Raw = repo.FrameSize + 1 },
			"nothing held": func(p *repo.Pack) { p.Frames[0].Stored = -1 },
			"large stored": func(p *repo.Pack) { p.Frames[0].Stored = 2*repo.FrameSize + 1 },
			"too many":     func(p *repo.Pack) { p.Frames = make([]repo.Frame, 8193) },
		} {
			changed := p
			changed.Frames = append([]repo.Frame(nil), p.Frames...)
			change(&changed)
			_, err = readPack(ctx, g.r, changed)
			requireCorrupt(t, err, "a")
			require.NotEmpty(t, err.Error(), name)
		}
		// Of a later version, on the other hand: nothing is damaged.
		later := p
		later.Frames = append([]repo.Frame(nil), p.Frames...)
		later.Frames[1].Codec = "lzma"
		_, err = readPack(ctx, g.r, later)
		var unknown *repo.CodecError
		require.ErrorAs(t, err, &unknown)
		require.Equal(t, repo.CodecError{Key: "a", Codec: "lzma"}, *unknown)
		require.ErrorContains(t, err, `pack a has frames of an unknown codec, "lzma": use a newer version`)
		var corrupt *repo.CorruptError
		require.NotErrorAs(t, err, &corrupt)
		requireNoAnswerAtAll(t, err)

		bad := p
		bad.Key = "../a"
		_, err = readPack(ctx, g.r, bad)
		require.Error(t, err)
		var keyErr *repo.KeyError
		require.ErrorAs(t, bad.Check(), &keyErr)

		// A stream is no pack.
		_, err = put(ctx, g.w, "stream", "", pages(1000))
		require.NoError(t, err)
		stream := p
		stream.Key = "stream"
		_, err = readPack(ctx, g.r, stream)
		requireCorrupt(t, err, "stream")
	})
}

func TestHash(t *testing.T) {
	h := repo.HashOf([]byte("a cairn"))
	assert.Equal(t, "088a86dec1352d134b42a7edd0d0b378", h.String())
	var again repo.Hash
	require.NoError(t, again.UnmarshalText([]byte(strings.ToUpper(h.String()))))
	assert.Equal(t, h, again)
	for _, bad := range []string{"", h.String()[1:], h.String() + "00", "x" + h.String()[1:]} {
		require.Error(t, again.UnmarshalText([]byte(bad)), bad)
	}
}
