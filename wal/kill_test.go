package wal_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

func kills() int {
	if *soak {
		return 200
	}
	return 25
}

func openDir(t *testing.T, kind string) (*wal.Archive, task) {
	t.Helper()
	do := task{Repo: filepath.Join(t.TempDir(), "repo"), Dir: t.TempDir()}
	if kind == "encrypted" {
		do.Identity = keys().identity
	}
	store, err := repo.OpenDir(do.Repo, nil)
	require.NoError(t, err)
	return openArchive(t, store, options(t, kind)), do
}

// killSoon kills a child within a time that reaches over a few of its pushes or fetches.
func killSoon(c *child, r *rand.Rand) (stop func() bool) {
	return time.AfterFunc(time.Duration(r.IntN(30_000))*time.Microsecond, func() { _ = c.cmd.Process.Kill() }).Stop
}

// TestPushKilled kills processes that push, at random moments: what a process said was pushed must be held, and the next
// process goes on without help.
func TestPushKilled(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			a, do := openDir(t, kind)
			do.Do, do.From, do.To = "push", 1, 1<<40
			r := rand.New(rand.NewPCG(7, 7))
			before, during := 0, 0 // kills between pushes, and in one
			for i := range kills() / len(kinds) {
				c := startChild(t, do)
				// What was not acknowledged is pushed again, with the same content.
				what, number := c.next(t)
				require.Equal(t, "pushing", what)
				require.Equal(t, do.From, number)
				for range r.IntN(4) {
					what, number = c.next(t)
				}
				stop := killSoon(c, r)
				text := c.rest(t)
				stop()
				c.kill()
				for line := range strings.Lines(text) {
					if w, n, ok := said(line); ok {
						what, number = w, n
					}
				}
				acknowledged := number
				if what == "pushing" {
					during++
					acknowledged--
				} else {
					before++
				}
				for n := do.From; n <= acknowledged; n++ {
					requireHeld(t, a, segment(n).Name(), noisy(segment(n)))
				}
				do.From = acknowledged + 1
				require.NotContains(t, text, "FAIL", "kill %d", i)
			}
			require.Positive(t, during, "no push was ever killed (%d kills between pushes)", before)

			do.To = do.From + 1
			c := startChild(t, do)
			require.Contains(t, c.rest(t), fmt.Sprintf("pushed %d\n", do.From))
			require.NoError(t, c.cmd.Wait())
			cover, err := a.Coverage(t.Context())
			require.NoError(t, err)
			require.Len(t, cover.Timelines, 1)
			require.Equal(t, []wal.Range{{First: segment(1), Last: segment(do.From)}}, cover.Timelines[0].Ranges)
			for n := uint64(1); n <= do.From; n++ {
				require.True(t, bytes.Equal(noisy(segment(n)), read(t, a, segment(n).Name())), "%d", n)
			}
		})
	}
}

// TestFetchKilled kills processes that fetch, at random moments: the target is absent or whole, and never a part.
func TestFetchKilled(t *testing.T) {
	t.Parallel()
	a, do := openDir(t, "plain")
	do.Do, do.From, do.To = "fetch", 1, 4
	want := map[string]uint64{}
	for n := do.From; n < do.To; n++ {
		require.NoError(t, push(t, a, segment(n).Name(), noisy(segment(n))))
		want[string(noisy(segment(n)))] = n
	}
	r := rand.New(rand.NewPCG(8, 8))
	during, absent := 0, 0
	target := filepath.Join(do.Dir, "RECOVERYXLOG")
	for i := range kills() {
		if i%2 == 0 {
			require.NoError(t, os.RemoveAll(target))
		}
		c := startChild(t, do)
		what, number := c.next(t)
		require.Equal(t, "fetching", what)
		var fetched uint64
		for range 2 * r.IntN(3) {
			if what, number = c.next(t); what == "fetched" {
				fetched = number
			}
		}
		stop := killSoon(c, r)
		text := c.rest(t)
		stop()
		c.kill()
		require.NotContains(t, text, "FAIL", "kill %d", i)
		for line := range strings.Lines(text) {
			if w, n, ok := said(line); ok {
				if what, number = w, n; w == "fetched" {
					fetched = n
				}
			}
		}
		if what == "fetching" {
			during++
		}
		entries, err := os.ReadDir(do.Dir)
		require.NoError(t, err)
		require.LessOrEqual(t, len(entries), 2, "the target and a temp file")
		b, err := os.ReadFile(target)
		if os.IsNotExist(err) {
			require.Zero(t, fetched, "kill %d", i)
			absent++
			continue
		}
		require.NoError(t, err)
		got, whole := want[string(b)]
		require.True(t, whole, "kill %d: %d bytes that are no segment", i, len(b))
		if fetched != 0 {
			require.Contains(t, []uint64{fetched, number}, got, "kill %d", i)
		}
	}
	require.Positive(t, during, "no fetch was ever killed")
	require.NoError(t, a.Fetch(t.Context(), segment(1).Name(), target))
	requireOnly(t, do.Dir, "RECOVERYXLOG")
	b, err := os.ReadFile(target)
	require.NoError(t, err)
	require.True(t, bytes.Equal(noisy(segment(1)), b))
	t.Logf("%d kills: %d during a fetch, %d left no target", kills(), during, absent)
}

// TestPushByProcesses lets processes push the same segments at once, one of them with other content.
func TestPushByProcesses(t *testing.T) {
	t.Parallel()
	const segments = 8
	a, do := openDir(t, "encrypted")
	do.Do, do.From, do.To = "once", 1, 1+segments
	one, other := t.TempDir(), t.TempDir()
	for n := do.From; n < do.To; n++ {
		place(t, one, segment(n).Name(), content(segment(n)))
		b := content(segment(n))
		b[100_000]++
		place(t, other, segment(n).Name(), b)
	}
	children := make([]*child, 4)
	for i := range children {
		do.Dir = one
		if i == 3 {
			do.Dir = other
		}
		children[i] = startChild(t, do)
	}
	for _, c := range children {
		_, err := c.in.Write([]byte("go\n"))
		require.NoError(t, err)
	}
	verdicts := make([]map[uint64]string, len(children))
	for i, c := range children {
		verdicts[i] = map[uint64]string{}
		for line := range strings.Lines(c.rest(t)) {
			if what, number, ok := said(line); ok && what != "memory" && what != "peak" {
				verdicts[i][number] = what
			}
		}
		require.NoError(t, c.cmd.Wait())
		require.Len(t, verdicts[i], segments)
	}
	for n := do.From; n < do.To; n++ {
		require.Equal(t, verdicts[0][n], verdicts[1][n])
		require.Equal(t, verdicts[0][n], verdicts[2][n])
		require.NotEqual(t, verdicts[0][n], verdicts[3][n], "one content wins, the other is refused")
		want := content(segment(n))
		if verdicts[0][n] == "conflict" {
			want[100_000]++
		}
		requireHeld(t, a, segment(n).Name(), want)
	}
}
