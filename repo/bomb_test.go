package repo_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// allocated tells how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// skippable makes a skippable frame that says it is size bytes long.
func skippable(magic, size uint32, payload ...byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, magic)
	return append(binary.LittleEndian.AppendUint32(b, size), payload...)
}

// s2Frame makes a frame of codec S2, but for the CRC.
func s2Frame(kind byte, block []byte) []byte {
	n := len(block) + 4
	b := append([]byte("\xff\x06\x00\x00S2sTwO"), kind, byte(n), byte(n>>8), byte(n>>16), 0, 0, 0, 0)
	return append(b, block...)
}

// bombs are parts of an object that are small, sound as far as their checksum goes, and not what a writer writes.
func bombs(t testing.TB) map[string][][]byte {
	zeros := make([]byte, 64<<20)
	// A frame header that promises 4 GiB and a window as large, and a block.
	promise := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 1, 0, 0}
	dictionary := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 9, 0, 0, 'a'}
	runs := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38}, bytes.Repeat([]byte{0x02, 0x00, 0x08, 0}, 1000)...) // 64 KiB each
	block := s2.Encode(nil, zeros)
	return map[string][][]byte{
		"S2: 64 MiB of zeros":             {s2Frame(0, block)},
		"S2: a promise of 4 GiB":          {s2Frame(0, []byte("\xff\xff\xff\xff\x0f\x00a"))},
		"S2: a promise of 1 MiB":          {s2Frame(0, []byte("\x80\x80\x40\x00a"))},
		"S2: a length without end":        {s2Frame(0, bytes.Repeat([]byte{0xff}, 20))},
		"S2: a byte too many":             {s2Frame(0, s2.Encode(nil, zeros[:repo.FrameSize+1]))},
		"S2: a byte too many, raw":        {s2Frame(1, zeros[:repo.FrameSize+1])},
		"S2: from before the beginning":   {s2Frame(0, []byte("\x80\x80\x40\xfe\xff\xff"))},
		"S2: no block":                    {s2Frame(0, nil)},
		"S2: nothing, raw":                {s2Frame(1, nil)},
		"S2: a chunk of padding":          {s2Frame(0xfe, make([]byte, 100))},
		"S2: a chunk of another kind":     {s2Frame(2, make([]byte, 100))},
		"S2: a stream without chunks":     {[]byte("\xff\x06\x00\x00S2sTwO")},
		"S2: a chunk that says 16 MiB":    {[]byte("\xff\x06\x00\x00S2sTwO\x01\xff\xff\xff1234")},
		"S2: two chunks":                  {append(s2Frame(1, noise(100, 1)), s2Frame(1, noise(100, 1))[10:]...)},
		"S2: Snappy":                      {[]byte("\xff\x06\x00\x00sNaPpY\x01\x05\x00\x001234a")},
		"64 MiB of zeros in a frame":      {compress(t, zeros)},
		"64 MiB of zeros, best of all":    {compress(t, zeros, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))},
		"a byte too many":                 {compress(t, zeros[:repo.FrameSize+1])},
		"a promise of 4 GiB":              {promise},
		"a window of terabytes":           {window},
		"a dictionary":                    {dictionary},
		"runs without end":                {runs},
		"runs and an end":                 {append(runs, 1, 0, 0)},
		"a skippable frame":               {skippable(0x184D2A55, 3, 1, 2, 3)},
		"a skippable frame of 4 GiB":      {skippable(0x184D2A55, 1<<32-1)},
		"a second head":                   {skippable(0x184D2A50, 0)},
		"garbage":                         {noise(100, 1)},
		"a reserved block":                {{0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 7, 0, 0, 0}},
		"a frame in the old format":       {{0x27, 0xb5, 0x2f, 0xfd, 1, 0, 0}},
		"a frame cut off in its header":   {{0x28, 0xb5, 0x2f}},
		"an incompressible frame, larger": {compress(t, noise(2<<20, 1))},
	}
}

// Whoever can write to the store can make readers fail, but not take their memory.
func TestBombs(t *testing.T) {
	const limit = 8 << 20 // a few frames, as compressed and as not, and what reads them
	for name, parts := range bombs(t) {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, false)
			storeBytes(t, g.store, "a", craft("a", "", nil, parts...))
			var content []byte
			var err error
			used := allocated(func() { _, content, err = get(t.Context(), g.r, "a") })
			requireCorrupt(t, err, "a")
			assert.LessOrEqual(t, len(content), repo.FrameSize)
			assert.Less(t, used, uint64(limit))

			// And as the only frame of a pack, with a description that lies.
			for _, codec := range []repo.Codec{repo.CodecZstd, repo.CodecS2} {
				frame := repo.Frame{Raw: repo.FrameSize, Stored: max(1, min(2*repo.FrameSize, len(parts[0]))), Codec: codec}
				used = allocated(func() { _, err = readPack(t.Context(), g.r, repo.Pack{Key: "a", Frames: []repo.Frame{frame}}) })
				requireCorrupt(t, err, "a")
				assert.Less(t, used, uint64(limit))
			}
		})
	}
}

// The content of an object may be larger than memory: it is read in a stream.
func TestContentIsStreamed(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		const n = 128
		zeros := make([]byte, 1<<20)
		_, err := g.w.Put(t.Context(), "a", nil, func(w io.Writer) error {
			for range n {
				if _, err := w.Write(zeros); err != nil {
					return err
				}
			}
			return nil
		})
		require.NoError(t, err)
		used := allocated(func() {
			o, err := g.r.OpenObject(t.Context(), "a")
			require.NoError(t, err)
			defer o.Close()
			got, err := io.Copy(io.Discard, o)
			require.NoError(t, err)
			assert.EqualValues(t, n<<20, got)
		})
		assert.Less(t, used, uint64(16<<20))
	})
}

// Heads, tails and small objects are not read further than they can be long.
func TestBoundedHeads(t *testing.T) {
	g := newRig(t, false)
	endless := bytes.Repeat([]byte("x"), 64<<20)
	for name, b := range map[string][]byte{
		"a head of 4 GiB":  skippable(0x184D2A50, 1<<32-1),
		"a head of 64 MiB": skippable(0x184D2A50, 64<<20, endless...),
		"no head":          endless,
	} {
		r := g.reader(t, &replaced{g.store, "a", b})
		used := allocated(func() {
			_, _, err := get(t.Context(), r, "a")
			requireCorrupt(t, err, "a")
			_, err = r.Label(t.Context(), "a")
			requireCorrupt(t, err, "a")
		})
		assert.Less(t, used, uint64(1<<20), name)
	}

	p, err := writePack(t.Context(), g.w, "pack", []byte("frame"))
	require.NoError(t, err)
	whole := storedBytes(t, g.store, "pack")
	at := bytes.LastIndex(whole, []byte{0x51, 0x2a, 0x4d, 0x18})
	huge := append(bytes.Clone(whole[:at]), skippable(0x184D2A51, 1<<31, endless...)...)
	r := g.reader(t, &replaced{g.store, "pack", huge})
	used := allocated(func() {
		_, err = readPack(t.Context(), r, p)
		requireCorrupt(t, err, "pack")
	})
	assert.Less(t, used, uint64(4<<20))

	r = g.reader(t, &replaced{g.store, "record", endless})
	used = allocated(func() {
		var got note
		requireCorrupt(t, r.ReadRecord(t.Context(), "record", &got), "record")
	})
	assert.Less(t, used, uint64(1<<20))
	_, err = repo.Open(t.Context(), &replaced{repotest.Mem(nil), "pgcairn.json", endless}, nil)
	requireCorrupt(t, err, "pgcairn.json")
}

// The same in an encrypted repository, where the header is age's.
func TestBoundedHeadsEncrypted(t *testing.T) {
	g := newRig(t, true)
	_, err := put(t.Context(), g.w, "a", "", nil)
	require.NoError(t, err)
	key := storedKeys(t, g.store, "keys/")[0]
	const intro = "age-encryption.org/v1\n"
	for name, b := range map[string]string{
		"stanzas":        intro + strings.Repeat("-> x\n\n", 10<<20),
		"a stanza":       intro + "-> x\n" + strings.Repeat(strings.Repeat("A", 64)+"\n", 1<<20),
		"a line":         intro + "-> " + strings.Repeat("x", 64<<20),
		"something else": strings.Repeat("x", 64<<20),
	} {
		for _, at := range []string{"a", key} {
			r := g.reader(t, &replaced{g.store, at, []byte(b)})
			used := allocated(func() {
				_, _, err := get(t.Context(), r, "a")
				requireCorrupt(t, err, at)
				assert.Less(t, len(err.Error()), 32<<10, name)
			})
			assert.Less(t, used, uint64(16<<20), name)
		}
	}
}
