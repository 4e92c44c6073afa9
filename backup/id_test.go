package backup

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// IDs ascend, also within a second.
func TestIDsAscend(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 15, 30, 999, time.FixedZone("", 3600))
	id := newID(now, "20261121T091529Z-ffffff")
	at, err := id.Time()
	require.NoError(t, err)
	require.Equal(t, now.UTC().Truncate(time.Second), at)
	for range 1000 { // more than have room in a second
		next := newID(now, id)
		require.Greater(t, next, id)
		id = next
	}
	require.NotEqual(t, now.UTC().Format(idTime), string(id[:16]))
	require.Equal(t, ID("20261121T091531Z"), newID(now, "20261121T091530Z-ffffff")[:16])
	require.Equal(t, ID("20261121T091530Z-ffffff"), newID(now, "20261121T091530Z-fffffe"))
}

func TestParseID(t *testing.T) {
	for text, ok := range map[string]bool{
		"20261121T101530Z-9f3c2a": true, "20261121T101530Z-000000": true,
		"": false, "20261121T101530Z": false, "20261121T101530Z-": false, "20261121T101530Z-9F3C2A": false,
		"20261121T101530Z-9f3c2": false, "20261121T101530Z-9f3c2a0": false, "20261321T101530Z-9f3c2a": false,
		"20261121T101530-9f3c2a": false, "../20261121T101530Z-9f3c2a": false, "20261121T101530Z-9f3c2a/x": false,
		"2026112ZT101530Z-9f3c2a": false,
	} {
		id, err := ParseID(text)
		require.Equal(t, ok, err == nil, "%q", text)
		if ok {
			require.Equal(t, text, string(id))
		} else {
			require.Empty(t, id)
		}
	}
}
