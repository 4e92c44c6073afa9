package repo_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// discard is a store that forgets what is written to it, once it has answered how much it was.
type discard struct{ repo.Store }

func (s discard) Create(context.Context, string) (repo.Writer, error) { return &discardWriter{}, nil }

type discardWriter struct{ n int64 }

func (w *discardWriter) Write(p []byte) (int, error) {
	w.n += int64(len(p))
	return len(p), nil
}
func (w *discardWriter) Commit() (repo.Info, error) { return repo.Info{Size: w.n}, nil }
func (w *discardWriter) Close() error               { return nil }

// eachMode runs a benchmark with an unencrypted and an encrypted repository, whose writer writes into the void.
func eachMode(b *testing.B, bench func(b *testing.B, g *rig, w *repo.Repo)) {
	for _, encrypted := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "encrypted"}[encrypted]
		b.Run(name, func(b *testing.B) {
			g := newRig(b, encrypted)
			var c repo.Cipher
			if encrypted {
				c = writeOnly(b)
			}
			w, err := repo.Open(b.Context(), discard{g.store}, &repo.Options{Cipher: c})
			require.NoError(b, err)
			bench(b, g, w)
		})
	}
}

func reportRatio(b *testing.B, raw, stored int64) {
	b.ReportMetric(float64(stored)/float64(raw), "stored/raw")
}

func BenchmarkPut(b *testing.B) {
	eachMode(b, func(b *testing.B, g *rig, w *repo.Repo) {
		for _, size := range []int{8 << 10, 16 << 20} {
			b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
				content := pages(size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				var stored int64
				for b.Loop() {
					info, err := put(b.Context(), w, "a", "", content)
					require.NoError(b, err)
					stored = info.Size
				}
				reportRatio(b, int64(size), stored)
			})
		}
	})
}

func BenchmarkOpenObject(b *testing.B) {
	eachMode(b, func(b *testing.B, g *rig, _ *repo.Repo) {
		for _, size := range []int{8 << 10, 16 << 20} {
			b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
				key := fmt.Sprint(size)
				if _, err := g.store.Stat(b.Context(), key); err != nil {
					_, err = put(b.Context(), g.w, key, "", pages(size))
					require.NoError(b, err)
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					o, err := g.r.OpenObject(b.Context(), key)
					require.NoError(b, err)
					n, err := io.Copy(io.Discard, o)
					require.NoError(b, err)
					require.EqualValues(b, size, n)
					require.NoError(b, o.Close())
				}
			})
		}
	})
}

// eachCompression runs a benchmark with each compression.
func eachCompression(b *testing.B, bench func(b *testing.B, c repo.Compression)) {
	for _, c := range compressions {
		b.Run(string(c), func(b *testing.B) { bench(b, c) })
	}
}

func BenchmarkPackAppend(b *testing.B) {
	eachMode(b, func(b *testing.B, g *rig, w *repo.Repo) {
		eachCompression(b, func(b *testing.B, c repo.Compression) {
			frame := pages(repo.FrameSize)
			create := func() *repo.PackWriter {
				p, err := w.CreatePack(b.Context(), "a", &repo.PackOptions{Compression: c})
				require.NoError(b, err)
				return p
			}
			p := create()
			b.SetBytes(repo.FrameSize)
			b.ReportAllocs()
			raw := int64(0)
			for b.Loop() {
				if p.Full() {
					p = create()
					raw = 0
				}
				require.NoError(b, p.Append(frame))
				raw += repo.FrameSize
			}
			reportRatio(b, raw, p.Size())
		})
	})
}

func BenchmarkReadPack(b *testing.B) {
	eachMode(b, func(b *testing.B, g *rig, _ *repo.Repo) {
		eachCompression(b, func(b *testing.B, c repo.Compression) {
			var frames [][]byte
			content := pages(16 << 20)
			for at := 0; at < len(content); at += repo.FrameSize {
				frames = append(frames, content[at:at+repo.FrameSize])
			}
			p, err := writePackOf(b.Context(), g.w, string(c), c, frames...)
			require.NoError(b, err)
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, g.r.ReadPack(b.Context(), p, func(int, []byte) error { return nil }))
			}
		})
	})
}
