package backup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/stretchr/testify/require"
)

// notedPack makes notes of a pack of frames of pieces.
func notedPack(files []string, frames ...[]Piece) *packNotes {
	n := &packNotes{files: files}
	for i, pieces := range frames {
		raw := 0
		for _, p := range pieces {
			raw += p.Length
		}
		n.frames = append(n.frames, repo.Frame{Raw: raw, Stored: raw/2 + 1, Codec: repo.CodecZstd, Hash: repo.HashOf([]byte{byte(i)})})
		n.pieces = append(n.pieces, pieces)
	}
	return n
}

func (n *packNotes) bytes() []byte { return n.append(nil, func(file int) int { return file }) }

const notedKey = "packs/20261121T101530Z-9f3c2a/00000001"

func TestPackNotes(t *testing.T) {
	t.Parallel()
	n := notedPack([]string{"base/5/16384", "pg_xact/0000", "extra/ü"},
		[]Piece{{0, 0, 8192}, {0, 16384, 8192}}, []Piece{{1, 0, 10}, {2, 1 << 40, 1}}, []Piece{{0, 1 << 30, repo.FrameSize}})
	n.dataKey = "6048582065c346def7b58dbfca6346c7"
	b := n.bytes()
	got, err := decodePackNotes(notedKey, b)
	require.NoError(t, err)
	require.Equal(t, n, got)
	for i := range b {
		_, err := decodePackNotes(notedKey, b[:i])
		require.Error(t, err, "the first %d bytes", i)
	}
	_, err = decodePackNotes(notedKey, append(slices.Clone(b), 0))
	require.Error(t, err)
}

// The encoding is that of repo/FORMAT.md, chapter 6.
func TestPackNotesEncoding(t *testing.T) {
	t.Parallel()
	n := notedPack([]string{"base/5/16384", "pg_xact/0000"}, []Piece{{0, 8192, 300}, {1, 0, 2}})
	n.dataKey = "id"
	hash := n.frames[0].Hash
	want := slices.Concat(
		[]byte{1, 2}, []byte("id"),
		[]byte{2, 12}, []byte("base/5/16384"), []byte{12}, []byte("pg_xact/0000"),
		[]byte{1, 0xae, 2, 0x98, 1, 4}, []byte("zstd"), hash[:], // 302 raw bytes, 152 stored
		[]byte{2, 0, 0x80, 0x40, 0xac, 2, 1, 0, 2},
	)
	require.Equal(t, want, n.bytes())
}

func TestPackNotesThatCannotBe(t *testing.T) {
	t.Parallel()
	file := []string{"base/5/16384"}
	change := func(f func(n *packNotes)) []byte {
		n := notedPack(slices.Clone(file), []Piece{{0, 0, 8192}})
		f(n)
		return n.bytes()
	}
	for name, b := range map[string][]byte{
		"nothing":              {},
		"another version":      {2},
		"a path elsewhere":     change(func(n *packNotes) { n.files[0] = "../etc/passwd" }),
		"no path":              change(func(n *packNotes) { n.files[0] = "" }),
		"WAL":                  change(func(n *packNotes) { n.files[0] = "pg_wal/000000010000000000000001" }),
		"an unknown file":      change(func(n *packNotes) { n.pieces[0][0].File = 1 }),
		"an offset too large":  change(func(n *packNotes) { n.pieces[0][0].Offset = math.MaxInt64 }),
		"far beyond any file":  change(func(n *packNotes) { n.pieces[0][0].Offset = maxFileSize + 1 }),
		"an empty piece":       change(func(n *packNotes) { n.pieces[0] = append(n.pieces[0], Piece{0, 8192, 0}) }),
		"less than the frame":  change(func(n *packNotes) { n.frames[0].Raw++ }),
		"more than a frame":    notedPack(file, []Piece{{0, 0, repo.FrameSize}, {0, repo.FrameSize, 1}}).bytes(),
		"a frame of no pieces": change(func(n *packNotes) { n.pieces[0] = nil }),
		"an empty frame":       notedPack(file, nil).bytes(),
		"no stored bytes":      change(func(n *packNotes) { n.frames[0].Stored = 0 }),
		"an unknown codec":     change(func(n *packNotes) { n.frames[0].Codec = "lzma" }),
		"very many files":      {1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"very many frames":     {1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		_, err := decodePackNotes(notedKey, b)
		require.Error(t, err, name)
	}
}

// Notes take memory for what they tell and not for what they claim.
func TestPackNotesBombs(t *testing.T) {
	many := append([]byte{1, 0}, 0x80, 0x80, 0x40) // 1 << 20 files
	for range 1 << 20 {
		many = append(many, 1, 'a')
	}
	pieces := append(slices.Clone(many), 1, 1, 1, 4)
	pieces = append(append(pieces, "zstd"...), make([]byte, 16)...)
	pieces = append(pieces, 0x80, 0x80, 0x40)
	for range 1 << 20 {
		pieces = append(pieces, 0, 0, 1)
	}
	for _, b := range [][]byte{many, pieces} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decodePackNotes(notedKey, b)
		runtime.ReadMemStats(&after)
		require.Error(t, err)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(80<<20))
	}
}

// Of what killed backups have left, nothing is taken twice, what was stored last counts, and no more is dropped
// than has to be.
func TestLeftManifest(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 3))
	for range 300 {
		var left []leftPack
		for p := range 1 + random.IntN(4) {
			files := []string{"base/5/1", "base/5/2", "base/5/3"}
			random.Shuffle(len(files), func(i, k int) { files[i], files[k] = files[k], files[i] })
			var frames [][]Piece
			for range 1 + random.IntN(4) {
				var pieces []Piece
				for range 1 + random.IntN(3) {
					pieces = append(pieces, Piece{File: random.IntN(3), Offset: int64(random.IntN(12)), Length: 1 + random.IntN(4)})
				}
				frames = append(frames, pieces)
			}
			key := fmt.Sprintf("packs/20261121T101530Z-9f3c2a/%08d", p+1)
			left = append(left, leftPack{repo.Info{Key: key, Size: 100}, notedPack(files, frames...)})
		}
		requireDisjoint(t, withoutOverlaps(left))
	}

	files := []string{"a", "b"}
	old := notedPack(files, []Piece{{0, 0, 10}}, []Piece{{0, 10, 10}, {1, 0, 5}}, []Piece{{1, 20, 5}})
	later := notedPack([]string{"b", "c"}, []Piece{{0, 4, 1}}, []Piece{{1, 0, 1}})
	m := withoutOverlaps([]leftPack{{repo.Info{Key: "packs/1"}, old}, {repo.Info{Key: "packs/2"}, later}})
	require.Equal(t, []File{{Path: "a"}, {Path: "b"}, {Path: "c"}}, m.FileList)
	require.Equal(t, [][]Piece{{{0, 0, 10}}, nil, {{1, 20, 5}}}, m.PackList[0].Pieces)
	require.Equal(t, [][]Piece{{{1, 4, 1}}, {{2, 0, 1}}}, m.PackList[1].Pieces)
}

func withoutOverlaps(left []leftPack) *Manifest {
	m := leftManifest(left)
	dropOverlaps(m.PackList)
	return m
}

func requireDisjoint(t *testing.T, m *Manifest) {
	t.Helper()
	kept := map[[2]int64]bool{}
	for p := range m.PackList {
		for f, pieces := range m.PackList[p].Pieces {
			require.True(t, m.PackList[p].Needs(f) || pieces == nil)
			for _, c := range pieces {
				for at := c.Offset; at < c.Offset+int64(c.Length); at++ {
					require.False(t, kept[[2]int64{int64(c.File), at}])
					kept[[2]int64{int64(c.File), at}] = true
				}
			}
		}
	}
}

func FuzzDecodePackNotes(f *testing.F) {
	f.Add([]byte{})
	f.Add(notedPack([]string{"base/5/16384"}, []Piece{{0, 0, 8192}}).bytes())
	f.Add(notedPack([]string{"a", "b"}, []Piece{{0, 0, 10}}, []Piece{{0, 5, 10}, {1, 0, 5}}).bytes())
	f.Add([]byte{1, 0, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodePackNotes(notedKey, b)
		if err != nil {
			require.Nil(t, n)
			return
		}
		again, err := decodePackNotes(notedKey, n.bytes())
		require.NoError(t, err)
		require.Equal(t, n, again)
		total := 0
		for _, f := range n.frames {
			total += f.Raw
		}
		if total > 1<<16 {
			return
		}
		requireDisjoint(t, withoutOverlaps([]leftPack{{repo.Info{Key: notedKey, Size: 1 << 30}, n}, {repo.Info{Key: notedKey + "2", Size: 1 << 30}, again}}))
	})
}
