package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
)

// requests collects what is read of a store's packs.
type requests struct {
	mu sync.Mutex
	n  int
	b  int64
}

func (q *requests) observe(s repo.Store) repo.Store {
	return repo.Observe(s, func(o repo.Op) {
		if o.Name == "open" && o.Key == "pack" {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.n, q.b = q.n+1, q.b+o.Bytes
		}
	})
}

// took returns what was read since it was called last.
func (q *requests) took() (n int, b int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, b = q.n, q.b
	q.n, q.b = 0, 0
	return n, b
}

// oddFrames are of all sizes: within one chunk of age's, across two, and of many.
func oddFrames() [][]byte {
	return [][]byte{
		pages(1), noise(30_000, 1), noise(30_000, 2), noise(40_000, 3), noise(repo.FrameSize, 4),
		make([]byte, repo.FrameSize), noise(64<<10, 5), pages(100), noise(70_000, 6),
	}
}

// Each frame is read alone, and of the pack little more than the frame.
func TestPackReader(t *testing.T) {
	const chunk = 64<<10 + 16 // of age's payload
	bothModes(t, func(t *testing.T, g *rig) {
		for _, compression := range []repo.Compression{repo.ZstdFastest, repo.S2, repo.Uncompressed} {
			frames := oddFrames()
			require.NoError(t, g.store.Delete(t.Context(), "pack"))
			p, err := writePackOf(t.Context(), g.w, "pack", compression, frames...)
			require.NoError(t, err)
			var q requests
			o, err := g.reader(t, q.observe(g.store)).OpenPack(t.Context(), p)
			require.NoError(t, err)
			n, b := q.took()
			if g.encrypted {
				assert.Equal(t, 2, n)
				assert.LessOrEqual(t, b, int64(8<<10+chunk))
			} else {
				assert.Zero(t, n)
			}
			var buf []byte
			for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(frames)) { //nolint:gosec // only an order
				buf, err = o.Frame(t.Context(), i, buf)
				require.NoError(t, err)
				require.True(t, bytes.Equal(frames[i], buf), i)
				n, b := q.took()
				stored := int64(p.Frames[i].Stored)
				if !g.encrypted {
					assert.Equal(t, 1, n)
					assert.Equal(t, stored, b)
					continue
				}
				assert.LessOrEqual(t, n, 1, "frame %d", i)
				assert.LessOrEqual(t, b, (stored/(64<<10)+2)*chunk, "frame %d", i)
			}
		}
	})
}

// A pack that is a single chunk is there when it has been opened. Notes behind the frames change nothing.
func TestPackReaderOfSmallPack(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		p, err := writeNotedPack(t.Context(), g.w, "pack", []byte("notes"), []byte("a cairn"), []byte("marks"))
		require.NoError(t, err)
		var q requests
		o, err := g.reader(t, q.observe(g.store)).OpenPack(t.Context(), p)
		require.NoError(t, err)
		for i, want := range []string{"a cairn", "marks"} {
			raw, err := o.Frame(t.Context(), i, nil)
			require.NoError(t, err)
			require.Equal(t, want, string(raw))
		}
		n, b := q.took()
		if g.encrypted {
			assert.Equal(t, 1, n)
			assert.Equal(t, p.Size, b)
		} else {
			assert.Equal(t, 2, n)
		}
	})
}

func TestPackReaderInParallel(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		frames := oddFrames()
		p, err := writePack(t.Context(), g.w, "pack", frames...)
		require.NoError(t, err)
		o, err := g.r.OpenPack(t.Context(), p)
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			for i := range frames {
				wg.Go(func() {
					raw, err := o.Frame(t.Context(), i, nil)
					if err != nil || !bytes.Equal(frames[i], raw) {
						t.Error("it is not what was written", i, err)
					}
				})
			}
		}
		wg.Wait()
	})
}

// opaque is a cipher that hides why it fails, and asks for other pieces of the ciphertext than age's.
type opaque struct{ repo.Cipher }

func (c opaque) DecryptAt(r io.ReaderAt, size int64, secret string) (io.ReaderAt, int64, error) {
	plain, n, err := c.Cipher.DecryptAt(bytewise{r}, size, secret)
	if err != nil {
		return nil, 0, errors.New("no")
	}
	return mute{plain}, n, nil
}

// bytewise asks for a thousand bytes at a time.
type bytewise struct{ r io.ReaderAt }

func (b bytewise) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = b.r.ReadAt(p[n:min(len(p), n+1000)], off+int64(n))
		n += k
	}
	return n, err
}

type mute struct{ r io.ReaderAt }

func (s mute) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errors.New("no")
	}
	return n, err
}

// How a cipher reads and fails is its own affair.
func TestPackReaderWithAnotherCipher(t *testing.T) {
	g := newRig(t, true)
	frames := oddFrames()
	p, err := writePack(t.Context(), g.w, "pack", frames...)
	require.NoError(t, err)
	r, err := repo.Open(t.Context(), g.store, &repo.Options{Cipher: opaque{readOnlyCipher(t)}})
	require.NoError(t, err)
	o, err := r.OpenPack(t.Context(), p)
	require.NoError(t, err)
	for i := range frames {
		raw, err := o.Frame(t.Context(), i, nil)
		require.NoError(t, err)
		require.True(t, bytes.Equal(frames[i], raw), i)
	}
}

// readFrames reads all frames of a pack, each alone.
func readFrames(ctx context.Context, r *repo.Repo, p repo.Pack) (frames [][]byte, err error) {
	o, err := r.OpenPack(ctx, p)
	if err != nil {
		return nil, err
	}
	for i := range p.Frames {
		raw, err := o.Frame(ctx, i, nil)
		if err != nil {
			return nil, err
		}
		frames = append(frames, raw)
	}
	return frames, nil
}

func TestPackReaderFails(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		ctx := t.Context()
		p, err := writePack(ctx, g.w, "a", pages(1000), pages(200_000))
		require.NoError(t, err)

		missing := p
		missing.Key = "b"
		_, err = readFrames(ctx, g.r, missing)
		require.ErrorIs(t, err, fs.ErrNotExist)

		o, err := g.r.OpenPack(ctx, p)
		require.NoError(t, err)
		for _, i := range []int{-1, 2} {
			_, err = o.Frame(ctx, i, nil)
			require.ErrorContains(t, err, fmt.Sprintf("frame %d of a, which has 2", i))
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err = o.Frame(gone, 0, nil); err != nil { // it may be at hand
			require.ErrorIs(t, err, context.Canceled)
		}

		for name, change := range map[string]func(p *repo.Pack){
			"raw size":      func(p *repo.Pack) { p.Frames[0].Raw++ },
			"stored size":   func(p *repo.Pack) { p.Frames[0].Stored++ },
			"hash":          func(p *repo.Pack) { p.Frames[1].Hash[15] ^= 1 },
			"order":         func(p *repo.Pack) { p.Frames[0], p.Frames[1] = p.Frames[1], p.Frames[0] },
			"another codec": func(p *repo.Pack) { p.Frames[0].Codec = repo.CodecS2 },
			"no codec":      func(p *repo.Pack) { p.Frames[0].Codec = "" },
			"more":          func(p *repo.Pack) { p.Frames = append(p.Frames, p.Frames[1]) },
			"far more":      func(p *repo.Pack) { p.Frames = append(p.Frames, slices.Repeat(p.Frames[:1], 5000)...) },
			"key":           func(p *repo.Pack) { p.Key = "../a" },
		} {
			changed := p
			changed.Frames = slices.Clone(p.Frames)
			change(&changed)
			_, err = readFrames(ctx, g.r, changed)
			requireCorrupt(t, err, changed.Key)
			require.NotEmpty(t, err.Error(), name)
		}
		for _, size := range []int64{-1 << 40, -1, 0, 1, p.Size - 1, p.Size + 1, 1 << 60} {
			changed := p
			changed.Size = size
			got, err := readFrames(ctx, g.r, changed)
			if g.encrypted {
				requireCorrupt(t, err, "a")
			} else {
				require.NoError(t, err, "it takes no size")
				require.Len(t, got, 2)
			}
		}
		later := p
		later.Frames = slices.Clone(p.Frames)
		later.Frames[1].Codec = "lzma"
		_, err = g.r.OpenPack(ctx, later)
		var unknown *repo.CodecError
		require.ErrorAs(t, err, &unknown)

		if g.encrypted {
			_, err = g.w.OpenPack(ctx, p)
			var identity *crypto.IdentityError
			require.ErrorAs(t, err, &identity)
			requireNoAnswerAtAll(t, err)
		}
	})
}

// A flipped bit of a frame's content shows, and of an encrypted pack any that is read.
func TestPackReaderFindsDamage(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		for _, compression := range []repo.Compression{repo.ZstdFastest, repo.S2, repo.Uncompressed} {
			key := string(compression)
			p, err := writePackOf(t.Context(), g.w, key, compression, pages(500), noise(200, 1))
			require.NoError(t, err)
			whole := storedBytes(t, g.store, key)
			s := &replaced{Store: g.store, key: key}
			r := g.reader(t, s)
			var flips []int
			begin := 8 + 8 + 1 + len(key) + 16
			for _, f := range p.Frames {
				flips = append(flips, begin+f.Stored/2)
				begin += f.Stored
			}
			if g.encrypted {
				flips = nil
				for at := 0; at < len(whole); at += 29 {
					flips = append(flips, at)
				}
			}
			for _, at := range flips {
				s.data = bytes.Clone(whole)
				s.data[at] ^= 1 << (at % 8)
				_, err := readFrames(t.Context(), r, p)
				requireCorrupt(t, err, key)
			}
			s.data = whole[:begin-1]
			_, err = readFrames(t.Context(), r, p)
			requireCorrupt(t, err, key)
		}
	})
}
