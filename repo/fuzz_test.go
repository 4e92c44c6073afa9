package repo_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
)

// fuzzObject feeds bytes as an object to everything that reads one. Only what a writer wrote may come out.
func fuzzObject(f *testing.F, g *rig) {
	const label, content = "label", "a cairn marks the way back"
	_, err := put(f.Context(), g.w, "a", label, []byte(content))
	require.NoError(f, err)
	stream := storedBytes(f, g.store, "a")
	seeds := [][]byte{stream}
	packs := map[string]repo.Pack{}
	for _, c := range compressions {
		key := "pack of " + string(c)
		packs[key], err = writePackOf(f.Context(), g.w, key, c, []byte("frame"), pages(1000))
		require.NoError(f, err)
		seeds = append(seeds, storedBytes(f, g.store, key))
	}
	packs["noted"], err = writeNotedPack(f.Context(), g.w, "noted", []byte("notes"), []byte("frame"), pages(1000))
	require.NoError(f, err)
	seeds = append(seeds, storedBytes(f, g.store, "noted"))
	packs["parts"], err = writeStretchedPack(f.Context(), g.w, "parts", []byte("notes"), []byte("frame"), pages(1000))
	require.NoError(f, err)
	seeds = append(seeds, storedBytes(f, g.store, "parts"))
	for _, whole := range seeds {
		f.Add(whole)
		f.Add(whole[:len(whole)/2])
		f.Add(append(bytes.Clone(whole), whole...))
	}
	f.Add([]byte(nil))
	// A key need not be opened each time.
	r := &replaced{Store: g.store, key: "a"}
	reader := g.reader(f, r)
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(err error) {
			var corrupt *repo.CorruptError
			var wrong *crypto.IdentityError
			require.True(t, errors.As(err, &corrupt) || errors.As(err, &wrong), "%v", err)
			requireNoAnswerAtAll(t, err)
		}
		r.data = b
		gotLabel, got, err := get(t.Context(), reader, "a")
		if err != nil {
			check(err)
		} else {
			require.Equal(t, label+content, gotLabel+string(got))
			require.Equal(t, stream, b)
		}
		for key, p := range packs {
			r.key = key
			frames, err := readPack(t.Context(), reader, p)
			if err != nil {
				check(err)
			} else {
				require.Len(t, frames, 2)
				require.Equal(t, storedBytes(t, g.store, key), b)
			}
			if _, _, err := get(t.Context(), reader, key); err != nil {
				check(err)
			}
			if notes, err := reader.Notes(t.Context(), key); err != nil {
				check(err)
			} else if len(notes) > 0 {
				require.Equal(t, "notes", string(notes))
			}
			if s, err := reader.Stretches(t.Context(), p); err != nil {
				check(err)
			} else if s != nil {
				require.True(t, s.Hold(0, 0, []byte("frame")) && s.Hold(1, 0, pages(1000)))
			}
		}
		r.key = "a"
		if _, err := reader.Label(t.Context(), r.key); err != nil {
			check(err)
		}
	})
}

func FuzzObject(f *testing.F)          { fuzzObject(f, newRig(f, false)) }
func FuzzEncryptedObject(f *testing.F) { fuzzObject(f, newRig(f, true)) }

// Behind right checksums, which keep FuzzObject from most of the code.
func FuzzFrames(f *testing.F) {
	g := newRig(f, false)
	r := &replaced{Store: g.store, key: "a"}
	reader := g.reader(f, r)
	for _, parts := range bombs(f) {
		if b := bytes.Join(parts, nil); len(b) < 10_000 {
			f.Add("label", b, []byte(nil), uint32(1000), uint32(1000))
		}
	}
	frame := compress(f, pages(1000))
	f.Add("", append(compress(f, nil), frame...), []byte("table"), uint32(1000), uint32(len(frame)))
	for _, c := range compressions {
		p, err := writePackOf(f.Context(), g.w, string(c), c, pages(1000))
		require.NoError(f, err)
		frame := framesOf(storedBytes(f, g.store, string(c)), p)
		f.Add("", frame, []byte(nil), uint32(1000), uint32(len(frame)))
	}
	stock, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(64<<20))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, label string, frames, table []byte, raw, stored uint32) {
		if len(label) > 256 {
			return
		}
		r.data = craft("a", label, table, frames)
		gotLabel, got, err := get(t.Context(), reader, "a")
		if err == nil {
			want, werr := stock.DecodeAll(frames, nil)
			require.NoError(t, werr)
			require.True(t, bytes.Equal(want, got))
			require.Equal(t, label, gotLabel)
		} else {
			requireCorrupt(t, err, "a")
		}
		for _, codec := range []repo.Codec{repo.CodecZstd, repo.CodecS2} {
			p := repo.Pack{Key: "a", Frames: []repo.Frame{{Raw: int(raw), Stored: int(stored), Codec: codec}}}
			_, err = readPack(t.Context(), reader, p) // whose checksum nobody guesses
			requireCorrupt(t, err, "a")

			// A pack in which all is right but, maybe, the frame: what it holds is what stock programs say.
			var want []byte
			if codec == repo.CodecS2 {
				want, err = io.ReadAll(io.LimitReader(s2.NewReader(bytes.NewReader(frames)), repo.FrameSize+1))
			} else {
				want, err = stock.DecodeAll(frames, nil)
			}
			if err != nil || len(want) == 0 || len(want) > repo.FrameSize || len(frames) > 2*repo.FrameSize {
				continue
			}
			p.Frames[0] = repo.Frame{Raw: len(want), Stored: len(frames), Codec: codec, Hash: repo.HashOf(want)}
			r.data = craft("a", "", tableOf(p), frames)
			if got, err := readPack(t.Context(), reader, p); err != nil {
				requireCorrupt(t, err, "a") // more than one frame, or chunk
			} else {
				require.True(t, bytes.Equal(want, got[0]))
			}
		}
	})
}
