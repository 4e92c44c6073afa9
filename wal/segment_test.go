package wal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

func TestSegmentNames(t *testing.T) {
	for size := uint32(wal.MinSegmentSize); size <= wal.MaxSegmentSize; size *= 2 {
		require.True(t, wal.ValidSegmentSize(size))
		per := uint64(1<<32) / uint64(size) // segments for each value of the name's second part
		numbers := []uint64{0, 1, 2, per - 1, per, per + 1, 10*per - 1, 0x16*per + 3, per<<32 - 2, per<<32 - 1}
		for _, timeline := range []wal.Timeline{1, 2, 0x1F, 1<<32 - 1} {
			for _, number := range numbers {
				s := wal.Segment{Timeline: timeline, Number: number, Size: size}
				require.Len(t, s.Name(), 24)
				require.Equal(t, s.Name(), s.String())
				got, err := wal.ParseSegment(s.Name(), size)
				require.NoError(t, err)
				require.Equal(t, s, got)

				require.Equal(t, s, wal.SegmentAt(timeline, s.Start(), size), "its first byte")
				require.Equal(t, s, wal.SegmentAt(timeline, s.Start()+wal.LSN(size)-1, size), "its last byte")
				require.Equal(t, s.Start()+wal.LSN(size), s.End())
				require.Equal(t, s.End(), s.Next().Start())
				require.Equal(t, s, s.Next().Prev())
				require.Equal(t, s.Name()[8:], s.On(7).Name()[8:])
				require.Equal(t, wal.Timeline(7), s.On(7).Timeline)
			}
		}
		first := wal.Segment{Timeline: 1, Size: size}
		require.Equal(t, first, first.Prev(), "the first has none before it")
		last := wal.Segment{Timeline: 1, Number: per - 1, Size: size}
		_, err := wal.ParseSegment(last.Name(), size)
		require.NoError(t, err)
		if size < wal.MaxSegmentSize {
			_, err = wal.ParseSegment(last.Name(), 2*size)
			require.Error(t, err, "%s is of no segment of %d bytes", last, 2*size)
		}
	}
}

func TestSegmentNameIsTimelineAndPosition(t *testing.T) {
	for _, c := range []struct {
		at   wal.LSN
		size uint32
		want string
	}{
		{0x16_B374D848, 16 << 20, "0000000A00000016000000B3"},
		{0x16_B374D848, 64 << 20, "0000000A000000160000002C"},
		{0x16_B374D848, 1 << 20, "0000000A0000001600000B37"},
		{0x16_B374D848, 1 << 30, "0000000A0000001600000002"},
	} {
		require.Equal(t, c.want, wal.SegmentAt(10, c.at, c.size).Name())
	}
}

func TestInvalidSegmentSizes(t *testing.T) {
	for _, size := range []uint32{0, 1, 8192, 1<<20 - 1, 1<<20 + 1, 3 << 20, 24 << 20, 1<<30 + 1, 1 << 31, 1<<32 - 1} {
		require.False(t, wal.ValidSegmentSize(size), "%d", size)
		_, err := wal.ParseSegment("000000010000000000000001", size)
		require.Error(t, err, "%d", size)
	}
}

func TestParseSegmentWantsASegment(t *testing.T) {
	for _, name := range []string{
		"00000002.history", "000000010000000000000001.partial", "000000010000000000000001.00000028.backup", "nothing",
	} {
		_, err := wal.ParseSegment(name, 16<<20)
		var e *wal.NameError
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, name, e.Name)
	}
}

func TestParseTimeline(t *testing.T) {
	for text, want := range map[string]wal.Timeline{"00000001": 1, "0000000A": 10, "FFFFFFFF": 1<<32 - 1} {
		got, err := wal.ParseTimeline(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text+".history", got.HistoryName())
	}
	for _, text := range []string{"", "1", "00000000", "0000000a", "000000001", "0000000", "0000000G", "+0000001", "-0000001", "0x000001", "0_000001"} {
		_, err := wal.ParseTimeline(text)
		require.Error(t, err, "%q", text)
	}
}
