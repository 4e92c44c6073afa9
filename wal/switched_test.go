package wal_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// switched tells of content what Switched does.
func switched(t *testing.T, s wal.Segment, content []byte) bool {
	t.Helper()
	ok, err := wal.Switched(s, bytes.NewReader(content))
	require.NoError(t, err)
	return ok
}

// TestSwitched has real servers switch in the middle of a page, and where the record of the switch goes over its end.
func TestSwitched(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		const size = 1 << 20
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: size, Conf: map[string]string{
			"autovacuum": "off", "wal_keep_size": "1GB", "wal_init_zero": "off",
		}})
		c.Exec(t, `select pg_switch_wal()`)
		plain, split := false, false
		for n := 8; !plain || !split; { // the length of what comes before it
			end := pgtest.Value[string](t, c, `select pg_switch_wal()::text from pg_logical_emit_message(false, '', repeat('x', $1))`, n)
			at, err := wal.ParseLSN(end)
			require.NoError(t, err)
			s := wal.SegmentAt(1, at-1, size)
			content, err := os.ReadFile(filepath.Join(c.Data, "pg_wal", s.Name()))
			require.NoError(t, err)
			require.True(t, switched(t, s, content), "%s", s)
			used := len(bytes.TrimRight(content, "\x00"))
			start := lastRecord(t, content)
			across := int(start%walPage) > walPage-24
			plain, split = plain || !across, split || across
			n += (2*walPage - 16 - int(start%walPage)) % walPage // so that it begins there, unless the server writes something too
			// Until what is behind has been received, it may be anything.
			for _, dirty := range []int{int(at-s.Start()) + 24, size/2 + 1, size - 1} {
				if dirty < used || dirty >= size {
					continue
				}
				b := bytes.Clone(content)
				b[dirty] = 1
				require.False(t, switched(t, s, b), "%s at %d", s, dirty)
			}
			require.False(t, switched(t, s, content[:size-walPage]), "a part of it")
			require.False(t, switched(t, s.Next(), content), "another")
			b := bytes.Clone(content)
			clear(b[start%size:])
			require.False(t, switched(t, s, b), "without the switch")
		}
	})
}

// lastRecord is where the last record of a segment begins.
func lastRecord(t *testing.T, content []byte) wal.LSN {
	t.Helper()
	at, err := positions(content, nil)
	require.NoError(t, err)
	return at[len(at)-1]
}

// A segment that is full to its end may have been cut off in the middle of its last record.
func TestNotSwitched(t *testing.T) {
	t.Parallel()
	s := wal.Segment{Timeline: 1, Number: 3, Size: wal.MinSegmentSize}
	content := waltest.Segment(s, 7, 18)
	require.False(t, switched(t, s, content))
	require.False(t, switched(t, s, nil))
	require.False(t, switched(t, s, make([]byte, s.Size)))
	broken := errors.New("broken")
	_, err := wal.Switched(s, io.MultiReader(bytes.NewReader(content[:1000]), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
}
