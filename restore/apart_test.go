package restore_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/restore"
)

func TestApart(t *testing.T) {
	for _, c := range []struct {
		n, jobs int
		want    []int
	}{
		{0, 2, []int{}},
		{1, 8, []int{0}},
		{5, 1, []int{0, 1, 2, 3, 4}},
		{6, 2, []int{0, 3, 1, 4, 2, 5}},
		{7, 3, []int{0, 3, 6, 1, 4, 2, 5}},
		{3, 100, []int{0, 1, 2}},
	} {
		require.Equal(t, c.want, restore.Apart(c.n, c.jobs))
	}
	for n := range 40 {
		for jobs := 1; jobs < 12; jobs++ {
			all := restore.Apart(n, jobs)
			slices.Sort(all)
			require.Len(t, slices.Compact(all), n)
		}
	}
}
