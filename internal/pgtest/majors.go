package pgtest

import (
	"fmt"
	"testing"
)

// Majors returns the supported major versions of PostgreSQL, oldest first.
func Majors() []int { return []int{13, 14, 15, 16, 17, 18} }

// Newest returns the newest supported major version.
func Newest() int {
	all := Majors()
	return all[len(all)-1]
}

// Each runs f as one parallel subtest a major version, named pg13 to pg18. No more of them run at once than
// "go test -parallel" allows, which is the number of cores by default. As with every parallel subtest, the caller goes
// on before they end: give what they share to t.Cleanup, not to defer.
func Each(t *testing.T, f func(t *testing.T, major int)) {
	t.Helper()
	for _, major := range Majors() {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			f(t, major)
		})
	}
}
