package repo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// writeStretchedPack writes a pack that tells of its frames' stretches.
func writeStretchedPack(ctx context.Context, r *repo.Repo, key string, notes []byte, frames ...[]byte) (repo.Pack, error) {
	w, err := r.CreatePack(ctx, key, &repo.PackOptions{Stretches: true})
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

// stretchedFrames have one stretch, several, and such as are not full.
func stretchedFrames() [][]byte {
	return [][]byte{
		pages(1), noise(repo.StretchSize-1, 1), noise(repo.StretchSize, 2), noise(repo.StretchSize+1, 3), noise(repo.FrameSize, 4),
		make([]byte, 3*repo.StretchSize), noise(repo.FrameSize-1, 5),
	}
}

// requireStretches requires that just the bytes of frames are what they are said to hold.
func requireStretches(t *testing.T, s *repo.Stretches, frames [][]byte) {
	t.Helper()
	require.NotNil(t, s)
	for i, frame := range frames {
		for at := 0; at < len(frame); at += repo.StretchSize {
			require.True(t, s.Hold(i, at, frame[at:]))
			end := min(at+repo.StretchSize, len(frame))
			require.True(t, s.Hold(i, at, frame[at:end]))
			require.True(t, s.Hold(i, 0, frame[:end]))
			changed := slices.Clone(frame[at:end])
			changed[len(changed)/2] ^= 1
			require.False(t, s.Hold(i, at, changed), "frame %d at %d", i, at)
		}
	}
}

// The hashes are read without the frames, and those without the hashes. Notes are none of their business.
func TestStretches(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		frames := stretchedFrames()
		plain, err := writePack(t.Context(), g.w, "plain", frames...)
		require.NoError(t, err)
		for name, notes := range map[string][]byte{"none": nil, "short": []byte("n"), "noise": noise(100_000, 3)} {
			require.NoError(t, g.store.Delete(t.Context(), "pack"))
			p, err := writeStretchedPack(t.Context(), g.w, "pack", notes, frames...)
			require.NoError(t, err)
			require.Equal(t, plain.Frames, p.Frames)
			back, err := readPack(t.Context(), g.r, p)
			require.NoError(t, err)
			require.Equal(t, frames, back)
			requireNotes(t, g, "pack", notes)

			var q requests
			s, err := g.reader(t, q.observe(g.store)).Stretches(t.Context(), p)
			require.NoError(t, err)
			requireStretches(t, s, frames)
			n, b := q.took()
			hashes := int64(8 * (1 + 1 + 1 + 2 + 128 + 3 + 128))
			if g.encrypted {
				assert.LessOrEqual(t, n, 2, name)
				assert.LessOrEqual(t, b, hashes+int64(len(notes))+200_000, name)
			} else {
				assert.Equal(t, 1, n, name)
				assert.Equal(t, 8+hashes+16, b, name)
			}
		}
	})
}

// What hashes do not tell is not held, whatever is asked.
func TestStretchesThatCannotBeTold(t *testing.T) {
	t.Parallel()
	g := newRig(t, false)
	frame := noise(2*repo.StretchSize+100, 1)
	p, err := writeStretchedPack(t.Context(), g.w, "pack", nil, frame, frame)
	require.NoError(t, err)
	s, err := g.r.Stretches(t.Context(), p)
	require.NoError(t, err)
	for _, tt := range []struct {
		name             string
		frame, from, end int
	}{
		{"not at the beginning of a stretch", 0, 1, repo.StretchSize},
		{"not to the end of a stretch", 0, 0, repo.StretchSize + 1},
		{"not to the end of the frame", 0, 2 * repo.StretchSize, len(frame) - 1},
		{"no such frame", 2, 0, repo.StretchSize},
		{"before all frames", -1, 0, repo.StretchSize},
	} {
		require.False(t, s.Hold(tt.frame, tt.from, frame[tt.from:tt.end]), tt.name)
	}
	require.False(t, s.Hold(0, -repo.StretchSize, frame))
	require.False(t, s.Hold(0, 2*repo.StretchSize, frame), "more than the frame has")
	require.False(t, s.Hold(0, 1<<40, frame))
	require.False(t, (*repo.Stretches)(nil).Hold(0, 0, frame))
}

// Packs that were written without have none, and are no worse for it.
func TestNoStretches(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		for name, notes := range map[string][]byte{"none": nil, "short": []byte("n"), "noise": noise(3<<20, 3)} {
			p, err := writeNotedPack(t.Context(), g.w, name, notes, stretchedFrames()...)
			require.NoError(t, err)
			s, err := g.r.Stretches(t.Context(), p)
			require.NoError(t, err, name)
			require.Nil(t, s, name)
		}
	})
}

// The hashes are those that repo/FORMAT.md tells of, where it tells.
func TestStretchesAreAsTheFormatTells(t *testing.T) {
	t.Parallel()
	g := newRig(t, false)
	frames := stretchedFrames()
	for name, notes := range map[string][]byte{"a": nil, "b": []byte("notes")} {
		p, err := writeStretchedPack(t.Context(), g.w, name, notes, frames...)
		require.NoError(t, err)
		var hashes []byte
		for _, f := range frames {
			for part := range slices.Chunk(f, 8192) {
				hashes = binary.BigEndian.AppendUint64(hashes, xxh3.Hash(part))
			}
		}
		whole := storedBytes(t, g.store, name)
		from, n := len(craft(name, "", nil))-24, 0
		for _, f := range p.Frames {
			n += f.Stored
		}
		want := craft(name, "", tableOf(p), whole[from:from+n])
		clear(want[len(want)-16:])
		end := slices.Clone(whole[len(want)+8+len(hashes)+16:])
		want = binary.LittleEndian.AppendUint32(append(want, 0x53, 0x2a, 0x4d, 0x18), uint32(len(hashes)+16))
		want = append(append(want, hashes...), sumOf(slices.Concat([]byte(name+"\n"), hashes))...)
		want = append(want, end[:len(end)-16]...)
		require.Equal(t, "\x52\x2a\x4d\x18", string(end[:4]))
		if notes == nil {
			require.Equal(t, "\x10\x00\x00\x00", string(end[4:8]))
			require.Len(t, end, 8+16)
		}
		require.True(t, bytes.Equal(append(want, sumOf(want)...), whole))

		path := filepath.Join(t.TempDir(), "a.zst")
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		content, err := exec.CommandContext(t.Context(), "zstd", "-dc", path).Output()
		require.NoError(t, err)
		require.True(t, bytes.Equal(bytes.Join(frames, nil), content), "stock zstd passes over them")
	}
}

// Whatever byte is another, or missing: nothing is held that is not, and whoever reads the frames notices.
func TestDamagedStretches(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		frames := [][]byte{noise(2*repo.StretchSize+1, 1), []byte("a frame")}
		for name, notes := range map[string][]byte{"a": nil, "b": []byte("notes")} {
			p, err := writeStretchedPack(t.Context(), g.w, name, notes, frames...)
			require.NoError(t, err)
			whole := storedBytes(t, g.store, name)
			// What is before that was damaged elsewhere.
			begin := len(whole) - 400
			noticed := 0
			try := func(b []byte) {
				r := g.reader(t, with(t, g.store, name, b))
				s, err := r.Stretches(t.Context(), p)
				if err != nil {
					requireCorrupt(t, err, name)
					noticed++
				} else if s != nil {
					requireStretches(t, s, frames)
				}
				_, err = readPack(t.Context(), r, p)
				requireCorrupt(t, err, name)
			}
			for at := begin; at < len(whole); at++ {
				b := bytes.Clone(whole)
				b[at] ^= 1 << (at % 8)
				try(b)
			}
			require.Greater(t, noticed, 3*8+16)
			for n := begin; n < len(whole); n++ {
				try(whole[:n])
			}
			// Those of another pack are not taken for its own.
			other := p
			other.Key = "c"
			_, err = g.reader(t, with(t, g.store, "c", whole)).Stretches(t.Context(), other)
			requireCorrupt(t, err, "c")
		}
		for _, size := range []int64{-1, 0, 1, 1 << 50} {
			p, err := writeStretchedPack(t.Context(), g.w, "size", nil, frames...)
			require.NoError(t, err)
			require.NoError(t, g.store.Delete(t.Context(), "size"))
			p.Size = size
			_, err = g.reader(t, with(t, g.store, "size", storedBytes(t, g.store, "a"))).Stretches(t.Context(), p)
			requireCorrupt(t, err, "size")
		}
	})
}

// A store that fails is neither damage nor an answer; a pack that is not there is one.
func TestStretchesOfAStoreThatFails(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, g *rig) {
		p, err := writeStretchedPack(t.Context(), g.w, "a", nil, stretchedFrames()...)
		require.NoError(t, err)
		for n := 1; ; n++ {
			s := repotest.Faulty(g.store, repotest.Fault{Key: p.Key, Nth: n, Do: repotest.Fail(nil)})
			_, err := g.reader(t, s).Stretches(t.Context(), p)
			if s.Struck() == 0 {
				require.NoError(t, err)
				require.Greater(t, n, 1)
				break
			}
			requireOutage(t, err)
		}
		require.NoError(t, g.store.Delete(t.Context(), "a"))
		_, err = g.r.Stretches(t.Context(), p)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}
