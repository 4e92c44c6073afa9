package crc32c_test

import (
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pgcairn/pgcairn/internal/crc32c"
	"github.com/stretchr/testify/require"
)

// Whatever a file is cut into, and in whatever order its parts come, its checksum is that of the whole.
func TestParts(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	table := crc32.MakeTable(crc32.Castagnoli)
	for range 2000 {
		file := make([]byte, random.IntN(1<<random.IntN(17)))
		type part struct{ from, to int }
		var parts []part
		for at := 0; at < len(file); {
			p := part{at, at + 1 + random.IntN(len(file)-at)}
			if random.IntN(3) > 0 { // or it stays zero, and is no part
				for i := p.from; i < p.to; i++ {
					file[i] = byte(random.Uint32())
				}
				parts = append(parts, p)
			}
			at = p.to
		}
		random.Shuffle(len(parts), func(i, k int) { parts[i], parts[k] = parts[k], parts[i] })
		var sum uint32
		for _, p := range parts {
			sum ^= crc32c.Part(file[p.from:p.to], int64(len(file)-p.to))
		}
		require.Equal(t, crc32.Checksum(file, table), crc32c.Sum(sum, int64(len(file))), "%v of %d bytes", parts, len(file))
	}
}

// Zeros take no time, however many they are.
func TestZeros(t *testing.T) {
	t.Parallel()
	require.Zero(t, crc32c.Sum(0, 0))
	table := crc32.MakeTable(crc32.Castagnoli)
	zeros := make([]byte, 1<<20)
	var want uint32
	for range 64 {
		want = crc32.Update(want, table, zeros)
	}
	require.Equal(t, want, crc32c.Sum(0, 64<<20))
	require.Equal(t, crc32c.Sum(0, math.MaxInt64), crc32c.Sum(crc32c.Part(zeros, math.MaxInt64-int64(len(zeros))), math.MaxInt64))
	require.NotPanics(t, func() { crc32c.Part([]byte{1}, math.MaxInt64) })
}

func BenchmarkPart(b *testing.B) {
	for name, size := range map[string]int{"page": 8 << 10, "frame": 1 << 20} {
		part := make([]byte, size)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				crc32c.Part(part, 12345*8192)
			}
		})
	}
}
