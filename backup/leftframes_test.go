package backup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
)

// What is left out of the work is not read, and all else is.
func TestLeaveOut(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(6, 6))
	for range 2000 {
		w := work{read: make([][]extent, 2)}
		want := [2][40]bool{}
		for k := range w.read {
			for at := int64(random.IntN(3)); at < 40; at += int64(1 + random.IntN(4)) {
				e := extent{at, min(40, at+1+int64(random.IntN(6)))}
				w.read[k] = append(w.read[k], e)
				for at = e.from; at < e.to; at++ {
					want[k][at] = true
				}
			}
		}
		var pieces []piece
		for k := range w.read {
			for at := int64(random.IntN(4)); at < 40; at += int64(random.IntN(5)) {
				p := piece{k, extent{at, min(40, at+1+int64(random.IntN(9)))}}
				pieces = append(pieces, p)
				for at = p.from; at < p.to; at++ {
					want[k][at] = false
				}
			}
		}
		random.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		w.leaveOut(pieces)
		got := [2][40]bool{}
		for k, all := range w.read {
			last := int64(-1)
			for _, e := range all {
				require.Less(t, e.from, e.to)
				require.GreaterOrEqual(t, e.from, last)
				last = e.to
				for at := e.from; at < e.to; at++ {
					got[k][at] = true
				}
				require.True(t, within(all, e))
				require.Equal(t, e.to < 40 && got[k][e.to], within(all, extent{e.from, e.to + 1}))
			}
		}
		require.Equal(t, want, got)
	}
}

// IDs between two begin with what is asked for, and few IDs before them do.
func TestPrefixesBetween(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to ID
		want     string
	}{
		{"20260101T101530Z-9f3c2a", "20260101T111500Z-000000", "20260101T10 20260101T11"},
		{"20260107T010000Z-9f3c2a", "20260108T010000Z-000000", "20260107 20260108"},
		{"20251231T235959Z-9f3c2a", "20260101T000000Z-000000", "2025 2026"},
		{"20260101T101530Z-9f3c2a", "20260101T101530Z-9f3c2b", "20260101T101530Z-9f3c2"},
	} {
		require.Equal(t, tt.want, strings.Join(prefixesBetween(tt.from, tt.to), " "))
	}
}

// A backup that has stored far more than there is to be stored was of another kind.
func TestUpTo(t *testing.T) {
	t.Parallel()
	var left []repo.Info
	for of, n := range map[string]int{"20260101T000000Z-000000": 10, "20260101T000001Z-000000": 2, "20260101T000002Z-000000": 3} {
		for i := range n {
			left = append(left, repo.Info{Key: fmt.Sprintf("packs/%s/%08d", of, i+1), Size: 100})
		}
	}
	kept := map[string]int{}
	for _, info := range upTo(slices.Clone(left), 100) {
		kept[info.Key[6:29]]++
	}
	require.Equal(t, map[string]int{"20260101T000001Z-000000": 2}, kept)
	require.Len(t, upTo(left, 1<<62), 15)
}
