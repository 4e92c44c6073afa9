package wal_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// owing is a pg_wal whose segments before the last, from 1 on, are taken for archived; the last is asked for.
func owing(t testing.TB, last uint64) pgwal {
	t.Helper()
	p := backlog(t, 1, last+1)
	for n := uint64(1); n < last; n++ {
		p.done(t, segment(n).Name())
	}
	return p
}

// What was asked for is durable, and that is the result, though an older segment cannot be brought: neither where its
// upload ends with its context, nor where it does not.
func TestCatchUpIsNoPartOfTheVerdict(t *testing.T) {
	p := owing(t, 4)
	for name, wrap := range map[string]func(repo.Store, chan struct{}) repo.Store{
		"stalls": func(s repo.Store, _ chan struct{}) repo.Store {
			return repotest.Faulty(s, repotest.Fault{Op: repotest.OpCommit, Key: "wal/*/*/*/*" + segment(2).Name() + "*", Do: repotest.Stall()})
		},
		"hangs": func(s repo.Store, release chan struct{}) repo.Store {
			return &hangingCreate{s, segment(2).Name(), release}
		},
	} {
		for _, c := range []struct {
			durable int
			ctx     time.Duration
			takes   time.Duration
		}{
			{durable: 2, ctx: 13 * time.Second, takes: 10 * time.Second},
			{durable: 1, ctx: 13 * time.Second, takes: 10 * time.Second},
			{durable: 2, ctx: 3 * time.Second, takes: 3 * time.Second}, // as long as anybody waits
		} {
			t.Run(fmt.Sprint(name, c), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					release := make(chan struct{})
					defer close(release)
					a, b := heldSegments(t, 1, 2), heldSegments(t, 1, 2)
					s := join(t, &wal.ArchivesOptions{Durable: c.durable}, memberOf("a", wrap(a, release)), memberOf("b", wrap(b, release)))
					ctx, cancel := context.WithTimeout(t.Context(), c.ctx)
					defer cancel()
					begun := time.Now()
					all, err := s.PushAsked(ctx, p.path(segment(4).Name()), nil)
					require.NoError(t, err)
					takes := c.takes
					if name == "hangs" {
						takes += time.Second // and is left behind
					}
					require.Equal(t, takes, time.Since(begun))
					for i, store := range []repo.Store{a, b} {
						require.NoError(t, all[i].Err)
						require.NotNil(t, all[i].Pushed)
						requireWhole(t, store, 4)
						requireWhole(t, store, 3)
						require.True(t, lacks(t, store, 2))
					}
				})
			})
		}
	}
}

// PostgreSQL recycles a segment that it takes for archived, while catch-up has read its header and asks whom the
// repository belongs to.
func TestCatchUpOfARecycledSegment(t *testing.T) {
	p, far := owing(t, 3), heldSegments(t, 1, 2)
	now, expired, recycled := time.Now(), false, false
	var mu sync.Mutex
	observed := repo.Observe(far, func(op repo.Op) {
		mu.Lock()
		defer mu.Unlock()
		if op.Name == "list" && !expired { // of what the archive has
			now, expired = now.Add(2*time.Minute), true
		}
		if op.Name == "open" && strings.HasPrefix(op.Key, "systems/") && expired && !recycled {
			recycled = true
			next := segment(20)
			require.NoError(t, os.Rename(p.path(segment(2).Name()), p.path(next.Name())))
			f, err := os.OpenFile(p.path(next.Name()), os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt(content(next)[:3*8192], 0)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	})
	r, err := repo.Open(t.Context(), observed, &repo.Options{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	require.NoError(t, err)
	_, err = join(t, nil, opened("far", newArchive(t, r))).PushAsked(t.Context(), p.path(segment(3).Name()), nil)
	require.NoError(t, err)
	require.True(t, recycled)
	requireWhole(t, far, 3)
	require.True(t, lacks(t, far, 2))
}

// An archive that was out of reach during a promotion is brought the history as well, without which nothing that it gets
// of the timeline can be recovered. Where the timeline has begun long before, it is not asked for that.
func TestCatchUpBringsHistories(t *testing.T) {
	two := waltest.History(wal.Fork{Timeline: 1, At: segment(6).Start() + 4096})
	three := waltest.History(wal.Fork{Timeline: 1, At: segment(6).Start() + 4096}, wal.Fork{Timeline: 2, At: segment(8).Start()})
	for _, c := range []struct {
		name   string
		pushed wal.Segment
		done   []string
		brings []string
	}{
		{"just begun", onTimeline(3, 8), []string{"00000002.history", "00000003.history"}, []string{"00000002.history", "00000003.history"}},
		{"one is not done", onTimeline(3, 9), []string{"00000003.history"}, []string{"00000003.history"}},
		{"an end of reach", onTimeline(3, 8+256), []string{"00000002.history", "00000003.history"}, []string{"00000003.history"}},
		{"long ago", onTimeline(3, 9+256), []string{"00000002.history", "00000003.history"}, nil},
		{"the second", onTimeline(2, 7), []string{"00000002.history", "00000003.history"}, []string{"00000002.history"}},
		{"the first", onTimeline(1, 7), []string{"00000002.history"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPgwal(t)
			for name, text := range map[string][]byte{"00000002.history": two, "00000003.history": three} {
				place(t, filepath.Dir(p.path(name)), name, text)
			}
			for _, name := range c.done {
				place(t, filepath.Dir(p.status(name)), name+".done", nil)
			}
			p.ready(t, c.pushed.Name(), content(c.pushed))
			far := heldSegments(t, 1, 5)
			_, err := join(t, nil, memberOf("far", far)).PushAsked(t.Context(), p.path(c.pushed.Name()), nil)
			require.NoError(t, err)
			var brought []string
			for _, key := range objects(t, far, "wal/") {
				if name := path.Base(key); strings.HasSuffix(name, ".history") {
					brought = append(brought, name)
				}
			}
			require.Equal(t, c.brings, brought)
		})
	}
}

// On a slow road each call brings some of what an archive lacks, also where a push waits for less time than that takes.
func TestCatchUpOnASlowRoad(t *testing.T) {
	for _, c := range []struct {
		takes   time.Duration // one upload, when nothing else is on the road
		lag     time.Duration
		brought int // by the first call at least
	}{
		{takes: 3 * time.Second, brought: 3},
		{takes: 3 * time.Second, lag: time.Minute, brought: 4},
		{takes: 30 * time.Second, lag: time.Minute, brought: 1},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			p := owing(t, 12)
			synctest.Test(t, func(t *testing.T) {
				near, far := heldSegments(t, 1, 12), heldSegments(t, 1, 2)
				road := &road{Store: far, takes: c.takes, free: make(chan struct{}, 1)}
				s := join(t, &wal.ArchivesOptions{Durable: 1, Lag: c.lag}, memberOf("near", near), memberOf("far", road))
				all, err := s.PushAsked(t.Context(), p.path(segment(12).Name()), nil)
				require.NoError(t, err)
				require.NoError(t, all[1].Err, "it has what was asked for")
				requireWhole(t, far, 12)
				for n := range uint64(c.brought) {
					requireWhole(t, far, 2+n)
				}
			})
		})
	}
}

// hangingCreate hangs when one object is to be made, whatever becomes of the context.
type hangingCreate struct {
	repo.Store
	name    string
	release chan struct{}
}

func (s *hangingCreate) Create(ctx context.Context, key string) (repo.Writer, error) {
	if strings.Contains(key, s.name) {
		<-s.release
	}
	return s.Store.Create(ctx, key)
}

// road is a store at the end of a road that uploads share: two at a time take twice as long.
type road struct {
	repo.Store
	takes time.Duration
	free  chan struct{}
}

func (s *road) Create(ctx context.Context, key string) (repo.Writer, error) {
	w, err := s.Store.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	return &roadWriter{w, ctx, s}, nil
}

type roadWriter struct {
	repo.Writer
	ctx  context.Context
	road *road
}

func (w *roadWriter) Commit() (repo.Info, error) {
	const parts = 30
	for range parts {
		select {
		case w.road.free <- struct{}{}:
		case <-w.ctx.Done():
			return repo.Info{}, w.ctx.Err()
		}
		passed := time.NewTimer(w.road.takes / parts)
		select {
		case <-passed.C:
		case <-w.ctx.Done():
		}
		passed.Stop()
		<-w.road.free
	}
	if err := w.ctx.Err(); err != nil {
		return repo.Info{}, err
	}
	return w.Writer.Commit()
}
