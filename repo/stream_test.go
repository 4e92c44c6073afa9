package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

var errBoom = errors.New("boom")

func TestPutRoundTrip(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		contents := map[string][]byte{
			"5 MiB of pages": pages(5 << 20),
			"5 MiB of noise": noise(5<<20, 1),
			"40 MiB":         bytes.Repeat(noise(1000, 2), 40<<20/1000),
		}
		for _, n := range []int{0, 1, 100, repo.FrameSize - 1, repo.FrameSize, repo.FrameSize + 1, 2 * repo.FrameSize} {
			contents[fmt.Sprint(n)] = pages(n)
		}
		for name, want := range contents {
			key, label := "objects/"+name, strings.Repeat("l", len(name))
			info, err := put(t.Context(), g.w, key, label, want)
			require.NoError(t, err)
			stat, err := g.store.Stat(t.Context(), key)
			require.NoError(t, err)
			assert.Equal(t, stat, info)
			gotLabel, got, err := get(t.Context(), g.r, key)
			require.NoError(t, err)
			assert.Equal(t, label, gotLabel)
			require.True(t, bytes.Equal(want, got), name)
		}
	})
}

// However the content comes, and however it is fetched.
func TestPutInPieces(t *testing.T) {
	g := newRig(t, false)
	want := pages(3<<20 + 17)
	for _, piece := range []int{1, 1000, repo.FrameSize - 1, repo.FrameSize, repo.FrameSize + 1} {
		key := fmt.Sprint("pieces of ", piece)
		_, err := g.w.Put(t.Context(), key, nil, func(w io.Writer) error {
			rest := want
			if piece == 1 {
				rest = rest[:50_000]
			}
			for len(rest) > 0 {
				n, err := w.Write(rest[:min(piece, len(rest))])
				if err != nil {
					return err
				}
				rest = rest[n:]
			}
			return nil
		})
		require.NoError(t, err)
		o, err := g.r.OpenObject(t.Context(), key)
		require.NoError(t, err)
		assert.Empty(t, o.Label())
		var got bytes.Buffer
		_, err = io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{o}, make([]byte, 777))
		require.NoError(t, err)
		require.NoError(t, o.Close())
		if piece == 1 {
			require.True(t, bytes.Equal(want[:50_000], got.Bytes()))
		} else {
			require.True(t, bytes.Equal(want, got.Bytes()))
		}
	}
}

func TestPutWriterFails(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		for _, n := range []int{0, 10, 20 << 20} {
			synctest.Test(t, func(t *testing.T) { // which finds goroutines that are left
				g := newRig(t, g.encrypted)
				_, err := g.w.Put(t.Context(), "a", nil, func(w io.Writer) error {
					_, err := w.Write(make([]byte, n))
					require.NoError(t, err)
					return errBoom
				})
				require.ErrorIs(t, err, errBoom)
				_, err = g.store.Stat(t.Context(), "a")
				require.ErrorIs(t, err, fs.ErrNotExist)
			})
		}
		_, err := put(t.Context(), g.w, "a", "", []byte("in its place"))
		require.NoError(t, err)
	})
}

// A callback that never returns commits nothing and leaves nothing running.
func TestPutWriterPanics(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic(errBoom) }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, false)
				var returned bool
				var wg sync.WaitGroup
				wg.Add(1)
				go func() {
					defer wg.Done()
					defer func() {
						if v := recover(); v != nil && v != any(errBoom) {
							panic(v)
						}
					}()
					_, _ = g.w.Put(t.Context(), "a", nil, func(w io.Writer) error {
						if _, err := w.Write(make([]byte, 3<<20)); err != nil {
							t.Error(err)
						}
						end()
						return nil
					})
					returned = true
				}()
				wg.Wait()
				assert.False(t, returned)
				assert.Equal(t, []string{"pgcairn.json"}, storedKeys(t, g.store, ""))
			})
		})
	}
}

func TestPutLabel(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		write := func(w io.Writer) error { _, err := w.Write(make([]byte, 20<<20)); return err }
		label := func(f func() ([]byte, error)) *repo.PutOptions { return &repo.PutOptions{Label: f} }

		_, err := g.w.Put(t.Context(), "a", label(func() ([]byte, error) { return nil, errBoom }), write)
		require.ErrorIs(t, err, errBoom)
		_, err = g.w.Put(t.Context(), "a", label(func() ([]byte, error) { return make([]byte, 257), nil }), write)
		require.ErrorContains(t, err, "257 bytes")
		_, err = g.w.Put(t.Context(), "a", label(func() ([]byte, error) { runtime.Goexit(); return nil, nil }), func(io.Writer) error { return nil })
		require.ErrorContains(t, err, "label")
		_, err = g.store.Stat(t.Context(), "a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = g.w.Label(t.Context(), "a")
		require.ErrorIs(t, err, fs.ErrNotExist)

		for _, n := range []int{0, 1, 32, 256} {
			key, want := fmt.Sprint("label of ", n), noise(n, 3)
			// It may take until all is compressed, and see what the callback saw.
			written := make(chan struct{})
			_, err := g.w.Put(t.Context(), key, label(func() ([]byte, error) { <-written; return want, nil }), func(w io.Writer) error {
				defer close(written)
				_, err := w.Write(make([]byte, 16<<20))
				return err
			})
			require.NoError(t, err)
			for _, r := range []*repo.Repo{g.w, g.r} {
				got, err := r.Label(t.Context(), key)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
			}
		}
	})
}

func TestPutCancelled(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		for _, n := range []int{0, 10, 3 << 20} {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := g.w.Put(ctx, "a", nil, func(w io.Writer) error {
				_, err := w.Write(make([]byte, n))
				require.NoError(t, err)
				cancel()
				return nil
			})
			require.ErrorIs(t, err, context.Canceled)
			requireNoAnswerAtAll(t, err)
			_, err = g.store.Stat(t.Context(), "a")
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		// A callback that goes on regardless is stopped by its writer.
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		_, perr := g.w.Put(ctx, "a", nil, func(w io.Writer) error {
			cancel()
			for err == nil {
				_, err = w.Write(make([]byte, 1<<20))
			}
			return err
		})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, perr, context.Canceled)
	})
}

// What the store fails with is reported, not the cancellation that the callback sees.
func TestPutStoreFails(t *testing.T) {
	g := newRig(t, false)
	for _, op := range []repotest.Operation{repotest.OpCreate, repotest.OpWrite, repotest.OpCommit} {
		r := g.reader(t, repotest.Faulty(g.store, repotest.Fault{Op: op, Nth: 1}))
		_, err := r.Put(t.Context(), "a", nil, func(w io.Writer) error {
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return fmt.Errorf("copy: %w", err)
				}
			}
			return nil
		})
		requireOutage(t, err)
	}
}

func TestPutTaken(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		_, err := put(t.Context(), g.w, "a", "first", []byte("first"))
		require.NoError(t, err)
		_, err = put(t.Context(), g.w, "a", "second", []byte("second"))
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = writePack(t.Context(), g.w, "a", []byte("frame"))
		require.ErrorIs(t, err, fs.ErrExist)
		label, content, err := get(t.Context(), g.r, "a")
		require.NoError(t, err)
		assert.Equal(t, "first", label)
		assert.Equal(t, "first", string(content))
	})
}

func TestPutRace(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		const racers = 16
		var (
			errs  [racers]error
			start = make(chan struct{})
			wg    sync.WaitGroup
		)
		for i := range racers {
			wg.Go(func() {
				<-start
				_, errs[i] = put(t.Context(), g.w, "a", fmt.Sprint(i), noise(100_000, uint64(i)))
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil {
				require.Negative(t, winner, "two have won")
				winner = i
				continue
			}
			require.ErrorIs(t, err, fs.ErrExist)
		}
		require.GreaterOrEqual(t, winner, 0)
		label, content, err := get(t.Context(), g.r, "a")
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(winner), label)
		require.True(t, bytes.Equal(noise(100_000, uint64(winner)), content))
	})
}

func TestPutBadKey(t *testing.T) {
	g := newRig(t, false)
	for _, key := range []string{"", "../a", "a//b", "a\x00", strings.Repeat("a", 1025)} {
		_, err := put(t.Context(), g.w, key, "", nil)
		var keyErr *repo.KeyError
		require.ErrorAs(t, err, &keyErr)
		assert.Equal(t, key, keyErr.Key)
	}
	longest := strings.Repeat("a", 1024)
	_, err := put(t.Context(), g.w, longest, strings.Repeat("l", 256), []byte("content"))
	require.NoError(t, err)
	_, content, err := get(t.Context(), g.r, longest)
	require.NoError(t, err)
	assert.Equal(t, "content", string(content))
	label, err := g.r.Label(t.Context(), longest)
	require.NoError(t, err)
	assert.Len(t, label, 256)
}

func TestOpenObjectMissing(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		_, err := g.r.OpenObject(t.Context(), "a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "repo: open a: ")
		_, err = g.r.OpenFront(t.Context(), "a", 10)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = g.r.Label(t.Context(), "a")
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

func TestOpenFront(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		want := pages(64 << 10)
		require.NoError(t, streamOf(t.Context(), g.w, "a", "label", want, noise(5<<20, 1)))
		var read int64
		r := g.reader(t, repo.Observe(g.store, func(op repo.Op) {
			if op.Key == "a" {
				read += op.Bytes
			}
		}))
		const front = 192 << 10
		o, err := r.OpenFront(t.Context(), "a", front)
		require.NoError(t, err)
		got := make([]byte, len(want))
		_, err = io.ReadFull(o, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		assert.Equal(t, "label", string(o.Label()))
		require.NoError(t, o.Close())
		assert.LessOrEqual(t, read, int64(front))

		// Its end is not taken for that of the object.
		o, err = r.OpenFront(t.Context(), "a", front)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, o)
		require.Error(t, err)
		require.NoError(t, o.Close())
	})
}

// A store that has stopped to answer holds up a reader until his context ends, and nobody after that.
func TestReadStalled(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		_, err := put(t.Context(), g.w, "a", "", noise(5<<20, 1))
		require.NoError(t, err)
		synctest.Test(t, func(t *testing.T) {
			// A body that no longer answers, from some point in the second half on.
			stalled := repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpRead, Key: "a", Nth: 12, Do: repotest.Stall()})
			r := g.reader(t, stalled)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			o, err := r.OpenObject(ctx, "a")
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, o)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NoError(t, o.Close())
		})
	})
}

// A Read after the end, or after an error, says the same again.
func TestObjectErrorStays(t *testing.T) {
	g := newRig(t, false)
	_, err := put(t.Context(), g.w, "a", "", []byte("content"))
	require.NoError(t, err)
	whole := storedBytes(t, g.store, "a")
	o, err := g.r.OpenObject(t.Context(), "a")
	require.NoError(t, err)
	_, err = io.ReadAll(o)
	require.NoError(t, err)
	for range 2 {
		n, err := o.Read(make([]byte, 10))
		assert.Zero(t, n)
		assert.Equal(t, io.EOF, err)
	}
	require.NoError(t, o.Close())

	o, err = g.reader(t, &replaced{g.store, "a", whole[:len(whole)-1]}).OpenObject(t.Context(), "a")
	require.NoError(t, err)
	for range 3 {
		_, err = io.Copy(io.Discard, o)
		requireCorrupt(t, err, "a")
	}
	require.NoError(t, o.Close())
}

func TestReadCancelled(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		_, err := put(t.Context(), g.w, "a", "", noise(5<<20, 1))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		o, err := g.r.OpenObject(ctx, "a")
		require.NoError(t, err)
		cancel()
		_, err = io.Copy(io.Discard, o)
		require.ErrorIs(t, err, context.Canceled)
		var corrupt *repo.CorruptError
		require.NotErrorAs(t, err, &corrupt)
		require.NoError(t, o.Close())
	})
}

// Objects written by the letter of FORMAT.md, of other frames than this package's.
func TestOpenObjectOfAnotherWriter(t *testing.T) {
	g := newRig(t, false)
	raw := pages(100_000)
	for name, parts := range map[string][][]byte{
		"one frame":            {compress(t, raw)},
		"best compression":     {compress(t, raw, zstd.WithEncoderLevel(zstd.SpeedBestCompression))},
		"without checksum":     {compress(t, raw, zstd.WithEncoderCRC(false))},
		"frames of odd sizes":  {compress(t, raw[:1]), compress(t, raw[1:7]), compress(t, raw[7:])},
		"an empty frame":       {compress(t, raw), {0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0}},
		"a frame at most":      {compress(t, raw), compress(t, noise(repo.FrameSize, 1))},
		"a window of 8 MiB":    {compress(t, raw, zstd.WithWindowSize(8<<20), zstd.WithSingleSegment(false))},
		"a tail with contents": {compress(t, raw)},
	} {
		storeBytes(t, g.store, name, craft(name, "label", []byte(strings.Repeat("index", len(name)%2)), parts...))
		label, got, err := get(t.Context(), g.r, name)
		require.NoError(t, err, name)
		assert.Equal(t, "label", label)
		require.True(t, bytes.HasPrefix(got, raw), name)
	}
}

// streamOf makes a stream of so many frames, each of its own size.
func streamOf(ctx context.Context, r *repo.Repo, key, label string, frames ...[]byte) error {
	o := &repo.PutOptions{Label: func() ([]byte, error) { return []byte(label), nil }}
	_, err := r.Put(ctx, key, o, func(w io.Writer) error {
		for _, f := range frames {
			if _, err := w.Write(f); err != nil {
				return err
			}
			if err := w.(interface{ Flush() error }).Flush(); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func TestPutFlush(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		frames := [][]byte{noise(10, 1), nil, pages(3 << 20), noise(1, 2), nil}
		require.NoError(t, streamOf(t.Context(), g.w, "a", "label", frames...))
		_, content, err := get(t.Context(), g.r, "a")
		require.NoError(t, err)
		require.True(t, bytes.Equal(bytes.Join(frames, nil), content))
		if !g.encrypted {
			assert.Equal(t, 5, bytes.Count(storedBytes(t, g.store, "a"), []byte{0x28, 0xb5, 0x2f, 0xfd}), "frames")
		}
	})
}
