package wal_test

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

// TestMemoryOfALargeSegment pushes a segment of 1 GiB, a sparse file, from a process of its own.
func TestMemoryOfALargeSegment(t *testing.T) {
	t.Parallel()
	const limit = 200 << 20
	s := wal.Segment{Timeline: 1, Number: 1, Size: wal.MaxSegmentSize}
	if raceDetector && !*soak {
		s.Size /= 8 // it would take its time, to find the same
	}
	head := content(segment(1))[:8192]
	binary.LittleEndian.PutUint64(head[8:], uint64(s.Start()))
	binary.LittleEndian.PutUint32(head[32:], s.Size)
	for _, kind := range kinds {
		a, do := openDir(t, kind)
		require.NoError(t, os.Truncate(place(t, do.Dir, s.Name(), head), int64(s.Size)))
		do.Do, do.From, do.To = "once", 1, 2
		c := startChild(t, do)
		_, err := c.in.Write([]byte("go\n"))
		require.NoError(t, err)
		told := map[string]uint64{}
		for line := range strings.Lines(c.rest(t)) {
			if what, number, ok := said(line); ok {
				told[what] = number
			}
		}
		require.NoError(t, c.cmd.Wait())
		sys, peak := told["memory"], told["peak"]<<10
		t.Logf("%s: %d MiB of Go's memory, peak of the process %d MiB", kind, sys>>20, peak>>20)
		require.NotZero(t, sys)
		require.NotZero(t, peak)
		require.Less(t, sys, uint64(limit))
		if !raceDetector {
			require.Less(t, peak, uint64(limit))
		}
		has, err := a.Has(t.Context(), parseName(t, s.Name()))
		require.NoError(t, err)
		require.True(t, has)
	}
}
