package speed

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpeed(t *testing.T) {
	t.Parallel()
	const total = 1 << 30
	now := time.Date(2026, 11, 21, 10, 15, 30, 0, time.UTC)
	done := int64(0)
	var s Meter
	step := func(after time.Duration, bytes int64) (int64, time.Duration) {
		now, done = now.Add(after), done+bytes
		return s.Measure(now, done, total)
	}
	requireUnknown := func(rate int64, remaining time.Duration) {
		t.Helper()
		require.Zero(t, rate)
		require.Zero(t, remaining)
	}

	requireUnknown(step(0, 0))
	requireUnknown(step(200*time.Millisecond, 5<<20)) // too soon
	requireUnknown(step(700*time.Millisecond, 5<<20))
	rate, remaining := step(100*time.Millisecond, 0)
	require.EqualValues(t, 10<<20, rate)
	require.Equal(t, 101400*time.Millisecond, remaining)

	// After ten seconds nothing else counts, and no more is kept.
	for range 100 {
		rate, remaining = step(200*time.Millisecond, 1<<20)
	}
	require.EqualValues(t, 5<<20, rate)
	require.Equal(t, 182800*time.Millisecond, remaining)
	require.Len(t, s.seen, 51)

	// Half of the span has nothing to show: half the rate. Then all of it.
	rate, _ = step(5*time.Second, 0)
	require.EqualValues(t, 5<<19, rate)
	requireUnknown(step(10*time.Second, 0))
	rate, _ = step(time.Second, 11<<20)
	require.EqualValues(t, 1<<20, rate, "since the latest call that is ten seconds ago")

	// More than was thought, and a clock that was set back.
	_, remaining = step(time.Second, total)
	require.Zero(t, remaining)
	requireUnknown(step(-time.Hour, 1<<20))
	rate, _ = step(time.Second, 3<<20)
	require.EqualValues(t, 3<<20, rate)

	// A remaining time that no Duration could hold.
	s = Meter{}
	s.Measure(now, 0, math.MaxInt64)
	_, remaining = s.Measure(now.Add(10*time.Second), 10, math.MaxInt64)
	require.Greater(t, remaining, 100*365*24*time.Hour)
}
