package waltest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// logOf writes all kinds of records, over several segments.
func logOf(major int) (l *waltest.Log, end wal.LSN) {
	l = waltest.NewLog(wal.Segment{Timeline: 1, Number: 7, Size: wal.MinSegmentSize}, 4711, major)
	file := wal.File{Relation: wal.Relation{Tablespace: 1663, Database: 5, Number: 16384}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	l.Append(waltest.Noop(strings.Repeat("text ", 10_000)))
	l.Append(waltest.Create(file))
	for block := range uint32(200) { // which cross pages, and the end of the segment
		l.Append(waltest.FullPage(file, block, bytes.Repeat([]byte{byte(block)}, 8192)))
	}
	l.Append(waltest.Truncate(file.Relation, 100))
	l.Append(waltest.Commit(742, at))
	l.Append(waltest.RestorePoint("before the flood", at))
	l.Switch()
	l.Switch()
	_, end = l.Append(waltest.Commit(743, at.Add(time.Second), file.Relation))
	return l, end
}

// What is appended is what the reader of records finds, on every major, where Append says.
func TestLog(t *testing.T) {
	for _, major := range pgtest.Majors() {
		l, end := logOf(major)
		require.Equal(t, wal.LSN(0xA00000), end&^0xFFFFF)
		var all []byte
		for n := range uint64(4) {
			all = append(all, l.Segment(wal.Segment{Timeline: 1, Number: 7 + n, Size: wal.MinSegmentSize})...)
		}
		blocks := 0
		var last wal.LSN
		var resources []string
		for r, err := range wal.Records(bytes.NewReader(all), nil) {
			if err != nil {
				require.ErrorIs(t, err, wal.ErrEndOfWAL)
				break
			}
			blocks += len(r.Blocks)
			last = r.End
			resources = append(resources, r.Resource.String())
		}
		require.Equal(t, 200, blocks)
		require.Equal(t, end, last)
		require.Equal(t, l.Next(), last)
		require.Len(t, resources, 2+200+3+3+1)

		s := wal.Segment{Timeline: 1, Number: 7, Size: wal.MinSegmentSize}
		var indexes []*wal.Index
		for range 4 {
			ix, err := wal.IndexSegment(s, bytes.NewReader(l.Segment(s)))
			require.NoError(t, err)
			indexes = append(indexes, ix)
			s = s.Next()
		}
		sum, err := wal.Summarize(indexes...)
		require.NoError(t, err)
		file := wal.File{Relation: wal.Relation{Tablespace: 1663, Database: 5, Number: 16384}}
		limit, cut := sum.Blocks.Limit(file)
		require.True(t, cut)
		require.Zero(t, limit, "it was dropped")
	}
}

// A timeline begins with what its parent had, and both can be read.
func TestLogForks(t *testing.T) {
	l, _ := logOf(18)
	at := l.Next()
	l.Fork(2)
	require.Equal(t, at, l.Next())
	l.Append(waltest.Noop("on timeline 2"))
	old := wal.Segment{Timeline: 1, Number: 10, Size: wal.MinSegmentSize}
	require.Equal(t, l.Segment(old)[:at&0xFFFFF], l.Segment(old.On(2))[:at&0xFFFFF])
	for s, want := range map[wal.Segment]int{old: 1, old.On(2): 2} {
		n := 0
		for _, err := range wal.Records(bytes.NewReader(l.Segment(s)), nil) {
			if err == nil {
				n++
			}
		}
		require.Equal(t, want, n)
	}
}

func TestLogIsReadByWaldump(t *testing.T) {
	dir := pgtest.Dir(t)
	l, end := logOf(pgtest.DistroMajor(t))
	s := wal.Segment{Timeline: 1, Number: 7, Size: wal.MinSegmentSize}
	for range 4 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, s.Name()), l.Segment(s), 0o644))
		s = s.Next()
	}
	out := pgtest.Run(t, pgtest.DistroBin(t, "pg_waldump"), "--path="+dir, "--start=0/700028", "--end="+end.String())
	for text, n := range map[string]int{
		"desc: FPI": 200, "base/5/16384": 3, "to 100 blocks flags 1": 1, "05.000006": 1, "before the flood": 1, "desc: SWITCH": 2,
		"desc: COMMIT": 2, "rels: base/5/16384": 1, "rel 1663/5/16384 blk 199 FPW": 1, "error": 0,
	} {
		require.Equal(t, n, strings.Count(out, text), "%s in %s", text, out[max(0, len(out)-2000):])
	}
}

func TestLogRefusesWhatNoServerWrites(t *testing.T) {
	require.Panics(t, func() { waltest.NewLog(wal.Segment{Timeline: 1, Number: 1, Size: 12345}, 1, 18) })
	require.Panics(t, func() { waltest.NewLog(wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize}, 1, 12) })
}
