package main

import (
	"fmt"
	"time"
)

// size gives a number of bytes for people.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/(1<<10), 0
	for v >= 1<<10 && unit < 4 {
		v /= 1 << 10
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[unit])
}

// moment gives a time for people, in UTC.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// pgVersion gives a server_version_num as people write it.
func pgVersion(n int) string { return fmt.Sprintf("%d.%d", n/10000, n%10000) }
