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

// Some returns the first and the last of some major versions when the race detector watches, or else all. It makes a test
// take three times as long, and between those two servers differ in what they answer, not in what happens at the same
// time in a program that talks to them. "make test" runs tests on servers without it, too.
func Some(majors ...int) []int {
	if RaceDetector && len(majors) > 2 {
		return []int{majors[0], majors[len(majors)-1]}
	}
	return majors
}

// Each runs f as one parallel subtest a major version, named pg13 to pg18, or for [Some] of them. No more of them run at
// once than "go test -parallel" allows, which is the number of cores by default. As with every parallel subtest, the
// caller goes on before they end: give what they share to t.Cleanup, not to defer.
func Each(t *testing.T, f func(t *testing.T, major int)) {
	t.Helper()
	for _, major := range Some(Majors()...) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			f(t, major)
		})
	}
}
