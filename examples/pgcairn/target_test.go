package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimeFlag(t *testing.T) {
	want := time.Date(2026, 11, 21, 10, 15, 30, 500_000_000, time.UTC)
	for _, text := range []string{
		"2026-11-21T10:15:30.5Z", "2026-11-21T12:15:30.5+02:00", "2026-11-21 10:15:30.5+00", "2026-11-21 10:15:30.500000+00:00",
		"2026-11-21 15:45:30.5+05:30", "2026-11-21 10:15:30.5Z", "2026-11-21 12:15:30.5+0200",
	} {
		var f timeFlag
		require.NoError(t, f.UnmarshalText([]byte(text)))
		require.True(t, want.Equal(f.Time), text)
	}
	for _, text := range []string{"", "now", "2026-11-21", "2026-11-21 10:15:30", "2026-11-21T10:15:30"} {
		require.Error(t, new(timeFlag).UnmarshalText([]byte(text)), text)
	}
}
