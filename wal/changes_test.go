package wal_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

// TestGathered: whatever the order in which a file's blocks are changed, and how often, each is told once.
func TestGathered(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, blocks := range []uint32{1, 7, 3000, 5000, 100_000, 1 << 31} {
		t.Run(fmt.Sprint(blocks), func(t *testing.T) {
			steps, want := make([][]uint32, 4), make([][]uint32, 4)
			for i := range steps {
				steps[i] = []uint32{0, 1<<32 - 1} // the latter is none, but must not end anything
				for range r.IntN(60_000) {
					// In runs, as of a table, and at random, as of an index.
					steps[i] = append(steps[i], uint32(len(steps[i])/100)%blocks, r.Uint32N(blocks))
				}
				want[i] = slices.Compact(slices.Sorted(slices.Values(steps[i])))
			}
			require.Equal(t, want, wal.Gathered(steps...))
		})
	}
}
