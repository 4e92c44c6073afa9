package wal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

func TestParseName(t *testing.T) {
	for name, want := range map[string]struct {
		kind     wal.Kind
		timeline wal.Timeline
		number   uint64 // in segments of 16 MiB
	}{
		"000000010000000000000001":                 {wal.KindSegment, 1, 1},
		"0000000A00000016000000FF":                 {wal.KindSegment, 10, 0x16FF},
		"FFFFFFFFFFFFFFFF000000FF":                 {wal.KindSegment, 1<<32 - 1, 1<<40 - 1},
		"000000010000000000000000":                 {wal.KindSegment, 1, 0},
		"000000030000000100000002.partial":         {wal.KindPartial, 3, 0x102},
		"000000010000000000000002.00000028.backup": {wal.KindBackup, 1, 2},
		"000000010000000000000002.00ABCDEF.backup": {wal.KindBackup, 1, 2},
	} {
		n, err := wal.ParseName(name)
		require.NoError(t, err, name)
		require.Equal(t, want.kind, n.Kind, name)
		require.Equal(t, want.timeline, n.Timeline, name)
		require.Equal(t, name, n.String())
		s, err := n.Segment(16 << 20)
		require.NoError(t, err, name)
		require.Equal(t, wal.Segment{Timeline: want.timeline, Number: want.number, Size: 16 << 20}, s, name)
		_, err = n.Segment(12345)
		require.Error(t, err)
	}
	for _, name := range []string{"00000001.history", "00000002.history", "FFFFFFFF.history"} {
		n, err := wal.ParseName(name)
		require.NoError(t, err)
		require.Equal(t, wal.KindHistory, n.Kind)
		require.Equal(t, name, n.String())
		require.Equal(t, name, n.Timeline.HistoryName())
		_, err = n.Segment(16 << 20)
		var e *wal.NameError
		require.ErrorAs(t, err, &e)
	}
}

func TestParseNameRefuses(t *testing.T) {
	const good = "000000010000000000000001"
	bad := []string{
		"", ".", "..", "x", " ", "RECOVERYXLOG", "RECOVERYHISTORY", "archive_status", "backup_label", "xlogtemp.123",
		// lengths
		good[1:], good + "0", good[:8], good[:16], good + good,
		// digits
		strings.ToLower("0000000A0000000A0000000A"), "00000001000000000000000G", "0000000100000000 0000001", "+00000010000000000000001",
		"0x0000010000000000000001", "00000001_0000000000000001", "-00000010000000000000001", "00000001000000000000000１",
		// timeline 0, and a segment number beyond that of the smallest segments
		"000000000000000000000001", "000000010000000000001000", "0000000100000000FFFFFFFF",
		// directories
		"/" + good, "./" + good, "../" + good, good + "/", "pg_wal/" + good, `..\` + good, good + "\x00", "\x00" + good, good + "\n",
		// suffixes
		good + ".", good + ".x", good + ".partial.", good + ".partial.partial", good + ".PARTIAL", good + ".gz", good + ".ready", good + ".done",
		good + ".backup", good + ".00000028", good + ".00000028.", good + ".0000028.backup", good + ".000000280.backup", good + ".0000002g.backup",
		good + ".0000002a.backup", good + ".00000028.backup.x", good + ".00000028.partial", good + ".history", good + "..backup",
		good + ".00000028..backup", good + ".00000028.BACKUP", good + ".pgcairn-tmp", good + "~",
		// histories
		".history", "history", "2.history", "0000002.history", "000000002.history", "00000000.history", "0000000a.history",
		"+0000002.history", "00000002.History", "00000002.history.", "00000002.history.partial", "00000002", "00000002.histor", " 00000002.history",
		"../00000002.history", "00000002.history\n", "0000000G.history",
	}
	for _, name := range bad {
		_, err := wal.ParseName(name)
		var e *wal.NameError
		require.ErrorAs(t, err, &e, "%q", name)
		require.Equal(t, name, e.Name)
		require.NotEmpty(t, e.Reason)
		require.Contains(t, err.Error(), e.Reason)
	}
}

func TestNameOutOfRangeForItsSize(t *testing.T) {
	n, err := wal.ParseName("000000010000000000000100")
	require.NoError(t, err, "fine for segments of 1 MiB")
	s, err := n.Segment(1 << 20)
	require.NoError(t, err)
	require.Equal(t, uint64(256), s.Number)
	_, err = n.Segment(16 << 20)
	var e *wal.NameError
	require.ErrorAs(t, err, &e)
}
