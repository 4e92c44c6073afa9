package pgwire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseSettings(t *testing.T) {
	s, err := parseSettings("150018", "8192", "1GB", "16MB", "on")
	require.NoError(t, err)
	require.Equal(t, Settings{Version: 150018, PageSize: 8192, RelSegPages: 131072, WALSegmentSize: 16 << 20, Checksums: true}, s)
	s, err = parseSettings("180004", "32768", "2TB", "1GB", "off")
	require.NoError(t, err)
	require.Equal(t, Settings{Version: 180004, PageSize: 32768, RelSegPages: 1 << 26, WALSegmentSize: 1 << 30}, s)
	for _, bad := range [][4]string{
		{"x", "8192", "1GB", "16MB"},
		{"1", "8kB", "1GB", "16MB"},
		{"1", "8191", "1GB", "16MB"},
		{"1", "512", "1GB", "16MB"},
		{"1", "65536", "1GB", "16MB"},
		{"1", "8192", "4kB", "16MB"},
		{"1", "8192", "", "16MB"},
		{"1", "8192", "4194303TB", "16MB"},
		{"1", "8192", "1GB", "4GB"},
	} {
		_, err := parseSettings(bad[0], bad[1], bad[2], bad[3], "on")
		require.Error(t, err, bad)
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("150018", "8192", "1GB", "16MB", "on")
	f.Fuzz(func(t *testing.T, version, page, segment, walSegment, checksums string) {
		s, err := parseSettings(version, page, segment, walSegment, checksums)
		if err == nil {
			require.NotZero(t, s.PageSize)
			require.NotZero(t, s.RelSegPages)
			require.NotZero(t, s.WALSegmentSize)
		}
	})
}
