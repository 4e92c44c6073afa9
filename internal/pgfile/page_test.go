package pgfile_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// page returns a page of pseudo-random bytes with its checksum as of a block.
func page(size int, block uint32) []byte {
	p := make([]byte, size)
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	binary.LittleEndian.PutUint16(p[8:], pgfile.PageChecksum(p, block))
	return p
}

// checksum is pg_checksum_page as its comment in checksum_impl.h describes it.
func checksum(page []byte, block uint32) uint16 {
	base := [32]uint32{
		0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
		0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
		0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
		0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
	}
	words := make([]uint32, len(page)/4+64) // two rows of zeros at the end
	for i := range len(page) / 4 {
		words[i] = binary.LittleEndian.Uint32(page[4*i:])
	}
	words[2] &= 0xFFFF0000
	for i, w := range words {
		t := base[i%32] ^ w
		base[i%32] = t*16777619 ^ t>>17
	}
	var sum uint32
	for _, b := range base {
		sum ^= b
	}
	return uint16((sum^block)%65535 + 1)
}

func TestPageChecksumIsPostgres(t *testing.T) {
	for size := 1 << 10; size <= 32<<10; size *= 2 {
		for _, block := range []uint32{0, 1, 131071, 131072, 1<<32 - 1} {
			p := page(size, block)
			require.Equal(t, checksum(p, block), pgfile.PageChecksum(p, block))
			require.True(t, pgfile.PageOK(p, block))
			require.False(t, pgfile.PageOK(p, block^1), "in another place")
		}
	}
}

func TestPageChecksumFindsEveryFlippedBit(t *testing.T) {
	p := page(1024, 7)
	missed := 0
	for bit := range 8 * len(p) {
		p[bit/8] ^= 1 << (bit % 8)
		if pgfile.PageOK(p, 7) {
			missed++
		}
		p[bit/8] ^= 1 << (bit % 8)
	}
	require.LessOrEqual(t, missed, 1, "a checksum of 16 bits misses one of 65,535 by chance")
	require.True(t, pgfile.PageOK(p, 7))
}

func TestNewPageIsAllZero(t *testing.T) {
	p := make([]byte, 8192)
	require.True(t, pgfile.PageOK(p, 3))
	for _, at := range []int{0, 8, 13, 16, 4096, 8191} {
		p[at] = 1
		require.False(t, pgfile.PageOK(p, 3), "byte %d", at)
		p[at] = 0
	}
}

func TestZero(t *testing.T) {
	for n := range 40 {
		b := make([]byte, n)
		require.True(t, pgfile.Zero(b))
		for i := range b {
			b[i] = 0x80
			require.False(t, pgfile.Zero(b), "byte %d of %d", i, n)
			b[i] = 0
		}
	}
}

func TestPageLSN(t *testing.T) {
	require.Equal(t, uint64(0x16_B374D848), pgfile.PageLSN([]byte{0x16, 0, 0, 0, 0x48, 0xD8, 0x74, 0xB3}))
}

func BenchmarkPageChecksum(b *testing.B) {
	p := page(8192, 7)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		pgfile.PageChecksum(p, 7)
	}
}

func BenchmarkZero(b *testing.B) {
	p := make([]byte, 8192)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		pgfile.Zero(p)
	}
}
