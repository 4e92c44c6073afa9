package wal_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/wal"
)

// TestPushReadyKilled kills processes that clear a backlog, at random moments: whatever was acknowledged, and whatever a
// mark says, must be held, and the next process goes on without help.
func TestPushReadyKilled(t *testing.T) {
	t.Parallel()
	const backlog = 64
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			a, do := openDir(t, kind)
			do.Do, do.From, do.To = "ready", 1, 1+backlog
			pg := pgwal{do.Dir}
			for n := do.From; n < do.To; n++ {
				pg.ready(t, segment(n).Name(), noisy(segment(n)))
			}
			r := rand.New(rand.NewPCG(9, 9))
			state := filepath.Join(do.Dir, "state")
			ahead := 0                       // kills that left marks of what was archived ahead
			window := 150 * time.Millisecond // in which a process is killed; it grows where that is too soon for any
			for do.From < do.To {
				from := do.From
				c := startChild(t, do)
				what, number := c.next(t)
				require.Equal(t, "pushing", what)
				require.Equal(t, do.From, number)
				stop := time.AfterFunc(5*time.Millisecond+time.Duration(r.Int64N(int64(window))), func() { _ = c.cmd.Process.Kill() }).Stop
				text := c.rest(t)
				stop()
				c.kill()
				require.NotContains(t, text, "FAIL")
				for line := range strings.Lines(text) {
					if w, n, ok := said(line); ok && w == "pushed" {
						do.From = n + 1
					}
				}
				if do.From == from {
					window += window / 4
				}
				held := segmentNames(1, do.From)
				if m := marked(t, state); len(m) > 0 {
					ahead++
					held = append(held, whole(t, filepath.Join(glob(t, state), "pushed"), m)...)
				}
				for _, name := range held {
					s, err := wal.ParseSegment(name, wal.MinSegmentSize)
					require.NoError(t, err)
					require.True(t, bytes.Equal(noisy(s), read(t, a, name)), name)
				}
			}
			require.Positive(t, ahead, "no kill met a backlog")
			require.Empty(t, marked(t, state))
		})
	}
}

// whole returns the marks that were written to their end.
func whole(t testing.TB, dir string, names []string) (list []string) {
	t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		if bytes.HasSuffix(b, []byte("}")) {
			list = append(list, name)
		}
	}
	return list
}
