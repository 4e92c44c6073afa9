package repo_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// A compression stands as a text on command lines and in JSON.
func TestCompressionText(t *testing.T) {
	names := map[repo.Compression]string{
		repo.ZstdFastest: "zstd-fastest", repo.Zstd: "zstd", repo.ZstdBetter: "zstd-better", repo.S2: "s2", repo.Uncompressed: "none",
	}
	require.Len(t, names, len(compressions))
	type spec struct {
		Compression repo.Compression `json:"compression,omitempty"`
	}
	for c, name := range names {
		assert.Equal(t, name, c.String())
		got, err := repo.ParseCompression(name)
		require.NoError(t, err)
		assert.Equal(t, c, got)

		b, err := json.Marshal(spec{c})
		require.NoError(t, err)
		assert.JSONEq(t, `{"compression":"`+name+`"}`, string(b))
		var again spec
		require.NoError(t, json.Unmarshal(b, &again))
		assert.Equal(t, spec{c}, again)

		var flagged repo.Compression
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.TextVar(&flagged, "compression", repo.ZstdFastest, "")
		require.NoError(t, flags.Parse([]string{"-compression", name}))
		assert.Equal(t, c, flagged)
	}

	// The default is what was not given.
	b, err := json.Marshal(spec{})
	require.NoError(t, err)
	assert.JSONEq(t, `{}`, string(b))
	var again spec
	require.NoError(t, json.Unmarshal([]byte(`{"compression":""}`), &again))
	assert.Empty(t, string(again.Compression))
	assert.Equal(t, "zstd-fastest", again.Compression.String())

	for _, bad := range []string{"zstd ", "ZSTD", "lz4", "uncompressed", "zstd-19", "\x00"} {
		_, err := repo.ParseCompression(bad)
		require.ErrorContains(t, err, "one of zstd-fastest, zstd, zstd-better, s2, none", bad)
		require.ErrorContains(t, new(repo.Compression).UnmarshalText([]byte(bad)), fmt.Sprintf("%q", bad))
		_, err = json.Marshal(spec{repo.Compression(bad)})
		require.Error(t, err, bad)
	}
}

// sizes are lengths at which a frame's header, or its blocks, change.
var sizes = []int{
	1, 2, 3, 4, 7, 8, 31, 32, 33, 63, 64, 255, 256, 257, 1023, 1024, 65535, 65536, 65791, 65792, 65793, 128<<10 - 1, 128 << 10, 128<<10 + 1,
	repo.FrameSize - 1, repo.FrameSize,
}

// Whatever the compression, it comes back as it was, stock programs read it, and what does not shrink does not grow.
func TestPackCompressions(t *testing.T) {
	var frames [][]byte
	for i, n := range sizes {
		frames = append(frames, pages(n), noise(n, uint64(i)), make([]byte, n))
	}
	content := bytes.Join(frames, nil)
	bothModes(t, func(t *testing.T, g *rig) {
		for _, c := range append(compressions, "") {
			t.Run(c.String(), func(t *testing.T) {
				key := "packs/of " + string(c)
				p, err := writePackOf(t.Context(), g.w, key, c, frames...)
				require.NoError(t, err)
				require.NoError(t, p.Check())
				codec := repo.CodecZstd
				if c == repo.S2 {
					codec = repo.CodecS2
				}
				for i, f := range p.Frames {
					assert.Equal(t, codec, f.Codec)
					assert.LessOrEqual(t, f.Stored, f.Raw+41, i)
					if c == repo.Uncompressed {
						assert.Greater(t, f.Stored, f.Raw, i)
					}
				}
				got, err := readPack(t.Context(), g.r, p)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, bytes.Join(got, nil)))

				if g.encrypted {
					return // what it holds is the same: TestGoldenIsWritten
				}
				whole := storedBytes(t, g.store, key)
				stock, err := unzstd(whole)
				if c != repo.S2 {
					require.NoError(t, err)
					require.True(t, bytes.Equal(content, stock))
					return
				}
				require.Error(t, err, "rather than end early without a word")
				stock, err = io.ReadAll(s2.NewReader(bytes.NewReader(framesOf(whole, p))))
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, stock))
			})
		}
	})
}

// unzstd decompresses with the stock program.
func unzstd(b []byte) ([]byte, error) {
	cmd := exec.Command("zstd", "-dcq")
	cmd.Stdin = bytes.NewReader(b)
	return cmd.Output()
}

// framesOf returns the stored frames of an unencrypted pack.
func framesOf(whole []byte, p repo.Pack) []byte {
	stored := 0
	for _, f := range p.Frames {
		stored += f.Stored
	}
	tail := 8 + 25*len(p.Frames) + 16
	return whole[len(whole)-tail-stored : len(whole)-tail]
}

// Each is what its name says.
func TestCompressionsDiffer(t *testing.T) {
	g := newRig(t, false)
	stored := map[repo.Compression]int{}
	for _, c := range compressions {
		p, err := writePackOf(t.Context(), g.w, string(c), c, pages(repo.FrameSize))
		require.NoError(t, err)
		stored[c] = p.Frames[0].Stored
	}
	for _, c := range []repo.Compression{repo.ZstdFastest, repo.Zstd, repo.ZstdBetter} {
		assert.Less(t, stored[c], stored[repo.S2], c) // among them it depends on the content
	}
	assert.NotEqual(t, stored[repo.ZstdFastest], stored[repo.Zstd])
	assert.NotEqual(t, stored[repo.ZstdFastest], stored[repo.ZstdBetter])
	assert.NotEqual(t, stored[repo.Zstd], stored[repo.ZstdBetter])
	assert.Less(t, stored[repo.S2], repo.FrameSize/2)
	assert.Greater(t, stored[repo.Uncompressed], repo.FrameSize)
}

// The checksums inside frames are for stock programs, who have no other.
func TestStockProgramsNoticeDamage(t *testing.T) {
	g := newRig(t, false)
	content := pages(1000)
	for _, c := range compressions {
		p, err := writePackOf(t.Context(), g.w, string(c), c, content)
		require.NoError(t, err)
		whole := storedBytes(t, g.store, string(c))
		frame := framesOf(whole, p)
		// The last byte is zstd's checksum or S2's content; the one in the middle is content.
		for _, at := range []int{len(frame) / 2, len(frame) - 1} {
			frame[at] ^= 1
			var got []byte
			if c == repo.S2 {
				got, err = io.ReadAll(s2.NewReader(bytes.NewReader(frame)))
			} else {
				got, err = unzstd(whole)
			}
			require.Error(t, err, "%s: %d", c, at)
			require.False(t, bytes.Equal(content, got))
			frame[at] ^= 1
		}
	}
}

func TestPutCompression(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		content := bytes.Join([][]byte{pages(2_000_000), noise(1_500_000, 1)}, nil)
		write := func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		}
		for _, c := range append(compressions, "", "lz4") {
			key := "streams/of " + string(c)
			info, err := g.w.Put(t.Context(), key, &repo.PutOptions{Compression: c}, write)
			if c == repo.S2 || c == "lz4" {
				require.ErrorContains(t, err, string(c))
				_, err = g.store.Stat(t.Context(), key)
				require.ErrorIs(t, err, fs.ErrNotExist)
				continue
			}
			require.NoError(t, err)
			if c == repo.Uncompressed {
				assert.Greater(t, info.Size, int64(len(content)))
			} else {
				assert.Less(t, info.Size, int64(len(content)*3/4))
			}
			_, got, err := get(t.Context(), g.r, key)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got))
			if !g.encrypted {
				stock, err := unzstd(storedBytes(t, g.store, key))
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, stock))
			}
		}
	})
}

func TestCreatePackRefusesUnknownCompression(t *testing.T) {
	g := newRig(t, false)
	_, err := g.w.CreatePack(t.Context(), "a", &repo.PackOptions{Compression: "lz4"})
	require.ErrorContains(t, err, `repo: write a: unknown compression "lz4"`)
}

// Memory is for the frames that are compressed at a time, not for the packs that are open, nor for those who wait.
func TestCompressionMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // the first leaves what is pooled
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	frame := pages(20_000)
	for _, c := range compressions {
		t.Run(c.String(), func(t *testing.T) {
			g := newRig(t, false)
			w, err := repo.Open(t.Context(), discard{g.store}, nil)
			require.NoError(t, err)
			var packs []*repo.PackWriter
			for i := range 100 {
				p, err := w.CreatePack(t.Context(), fmt.Sprint(i), &repo.PackOptions{Compression: c})
				require.NoError(t, err)
				packs = append(packs, p)
			}
			before := heap()
			var wg sync.WaitGroup
			for _, p := range packs {
				wg.Go(func() { assert.NoError(t, p.Append(frame)) })
			}
			wg.Wait()
			used := heap() - before
			assert.Less(t, used, int64(16<<20), "two encoders, whoever has used them")
			for _, p := range packs {
				_, err := p.Commit()
				require.NoError(t, err)
			}
		})
	}
}

// A description that lies about the codec is noticed.
func TestFramesOfTheOtherCodec(t *testing.T) {
	g := newRig(t, false)
	content := strings.Repeat("a cairn marks the way back ", 100)
	z, err := writePackOf(t.Context(), g.w, "zstd", repo.Zstd, []byte(content))
	require.NoError(t, err)
	s, err := writePackOf(t.Context(), g.w, "s2", repo.S2, []byte(content))
	require.NoError(t, err)
	z.Frames, s.Frames = s.Frames, z.Frames
	for _, p := range []repo.Pack{z, s} {
		_, err := readPack(t.Context(), g.r, p)
		requireCorrupt(t, err, p.Key)
	}
}
