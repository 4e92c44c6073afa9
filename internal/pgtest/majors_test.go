package pgtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// Without the race detector nothing is left out.
func TestSome(t *testing.T) {
	t.Parallel()
	all := []int{13, 15, 17, 18}
	if pgtest.RaceDetector {
		assert.Equal(t, []int{13, 18}, pgtest.Some(all...))
	} else {
		assert.Equal(t, all, pgtest.Some(all...))
	}
	assert.Equal(t, []int{16}, pgtest.Some(16))
	assert.Equal(t, []int{16, 17}, pgtest.Some(16, 17))
}
