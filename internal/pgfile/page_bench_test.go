package pgfile_test

import (
	"math/rand/v2"
	"testing"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

func BenchmarkPageChecksum(b *testing.B) {
	page := make([]byte, 8192)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range page {
		page[i] = byte(r.Uint32())
	}
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		pgfile.PageChecksum(page, 7)
	}
}
