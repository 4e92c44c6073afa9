package waltest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

func TestSegmentHasTheHeaderItsNameAsksFor(t *testing.T) {
	for _, major := range pgtest.Majors() {
		s := wal.Segment{Timeline: 3, Number: 0x1_0000_0002, Size: wal.MinSegmentSize}
		b := waltest.Segment(s, 42, major)
		require.Len(t, b, wal.MinSegmentSize)
		h, err := wal.ReadHeader(bytes.NewReader(b))
		require.NoError(t, err)
		require.Equal(t, major, h.Major())
		require.Equal(t, wal.Header{
			Magic: h.Magic, Timeline: 3, Start: s.Start(), SystemID: 42, SegmentSize: wal.MinSegmentSize, PageSize: 8192,
		}, h)
		require.Equal(t, b, waltest.Segment(s, 42, major), "the same bytes each time")
		for name, other := range map[string][]byte{
			"timeline": waltest.Segment(s.On(4), 42, major),
			"number":   waltest.Segment(s.Next(), 42, major),
			"system":   waltest.Segment(s, 43, major),
		} {
			require.NotEqual(t, b, other, name)
		}
	}
}

func TestSegmentRefusesWhatNoServerWrites(t *testing.T) {
	s := wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize}
	require.Panics(t, func() { waltest.Segment(s, 1, 12) })
	require.Panics(t, func() { waltest.Segment(s, 1, 19) })
	s.Size = 12345
	require.Panics(t, func() { waltest.Segment(s, 1, 18) })
}

// pg_waldump checks every page header, the checksum of each record, and that each points to the one before.
func TestSegmentsAreReadByWaldump(t *testing.T) {
	for _, size := range []uint32{wal.MinSegmentSize, wal.DefaultSegmentSize} {
		dir := pgtest.Dir(t)
		first := wal.Segment{Timeline: 2, Number: 255, Size: size}
		last := first.Next().Next()
		for s := first; s.Number <= last.Number; s = s.Next() {
			b := waltest.Segment(s, 4711, pgtest.DistroMajor(t))
			require.NoError(t, os.WriteFile(filepath.Join(dir, s.Name()), b, 0o644))
		}
		out := pgtest.Run(t, pgtest.DistroBin(t, "pg_waldump"), "--path="+dir, "--timeline=2",
			"--start="+first.Start().String(), "--end="+last.End().String())
		require.Equal(t, 3*int(size)/8192, strings.Count(out, " NOOP"), out[max(0, len(out)-500):])
		require.NotContains(t, out, "error")
	}
}

func TestHistoryIsParsed(t *testing.T) {
	forks := []wal.Fork{{Timeline: 1, At: 0x3000060, Reason: "before 2026-01-01 00:00:00+00"}, {Timeline: 4, At: 0x5000000}}
	h, err := wal.ParseHistory(7, waltest.History(forks...))
	require.NoError(t, err)
	forks[1].Reason = "no recovery target specified"
	require.Equal(t, wal.History{Timeline: 7, Forks: forks}, h)
}
