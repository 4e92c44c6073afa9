package pace_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgcairn/pgcairn/internal/pace"
	"github.com/stretchr/testify/require"
)

const rate = 10 << 20 // bytes a second

// permit is a piece of work that was let through.
type permit struct {
	at time.Duration // since the beginning
	n  int
}

// requireNoBurst requires that no stretch of time, whichever, has more than the rate allows: a vessel that leaks as much,
// and is never filled beyond what 20 ms and one piece hold.
func requireNoBurst(t *testing.T, permits []permit) {
	t.Helper()
	level, last := 0.0, time.Duration(0)
	for _, p := range permits {
		level = max(0, level-(p.at-last).Seconds()*rate)
		require.LessOrEqual(t, level, rate*0.02+1, "at %v", p.at)
		level, last = level+float64(p.n), p.at
	}
}

// Whatever the number of workers and the size of the pieces, together they keep to the rate, and come up to it.
func TestWorkersShareTheRate(t *testing.T) {
	for _, workers := range []int{1, 7} {
		for _, n := range []int{1000, 8192, 100_001, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				p := pace.New(rate, time.Now)
				begin := time.Now()
				var (
					mu      sync.Mutex
					permits []permit
					wg      sync.WaitGroup
				)
				total := 0
				for range workers {
					wg.Go(func() {
						for {
							if err := p.Wait(t.Context(), n); err != nil {
								t.Error(err)
								return
							}
							mu.Lock()
							permits = append(permits, permit{time.Since(begin), n})
							total += n
							done := total >= 4<<20
							mu.Unlock()
							if done {
								return
							}
							time.Sleep(time.Millisecond)
						}
					})
				}
				wg.Wait()
				requireNoBurst(t, permits)
				if workers*n > 20_000 { // or the work is slower
					took := permits[len(permits)-1].at
					require.InDelta(t, float64(total-n)/rate, took.Seconds(), 0.025, "all that is allowed")
				}
			})
		}
	}
}

// Who was idle has nothing saved up.
func TestIdleTimeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.New(rate, time.Now)
		begin := time.Now()
		var permits []permit
		for i := range 100 {
			if i == 50 {
				time.Sleep(time.Hour)
			}
			require.NoError(t, p.Wait(t.Context(), 64<<10))
			permits = append(permits, permit{time.Since(begin), 64 << 10})
		}
		requireNoBurst(t, permits)
		// Of 99 pieces an hour has paid for one, and for what is made up for.
		require.InDelta(t, 98*0.00625, (permits[99].at - time.Hour).Seconds(), 0.02001)
	})
}

// A timer that fires late, or work that is slow now and then, costs no bandwidth.
func TestLatenessIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.New(rate, time.Now)
		begin := time.Now()
		for i := range 1000 {
			require.NoError(t, p.Wait(t.Context(), 8192))
			if i%10 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		require.InDelta(t, 999*8192/float64(rate), time.Since(begin).Seconds(), 0.001)
	})
}

func TestPiecesOfManySizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.New(rate, time.Now)
		begin := time.Now()
		var permits []permit
		for i := range 500 {
			n := 1 + i*7919%200_000
			require.NoError(t, p.Wait(t.Context(), n))
			permits = append(permits, permit{time.Since(begin), n})
		}
		requireNoBurst(t, permits)
	})
}

// Who has cancelled returns at once, whether he waits for his time or for his turn, and has used nothing up.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.New(1000, time.Now)
		require.NoError(t, p.Wait(t.Context(), 10_000)) // ten seconds
		begin := time.Now()
		ctx, cancel := context.WithCancelCause(t.Context())
		errs := make(chan error)
		for range 3 {
			go func() { errs <- p.Wait(ctx, 50_000) }()
		}
		synctest.Wait()
		time.Sleep(time.Second)
		cancel(errors.New("enough"))
		for range 3 {
			require.ErrorIs(t, <-errs, context.Canceled)
		}
		require.Equal(t, time.Second, time.Since(begin))
		require.ErrorIs(t, p.Wait(ctx, 1), context.Canceled, "even if it were its turn")

		require.NoError(t, p.Wait(t.Context(), 1000))
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.NoError(t, p.Wait(t.Context(), 1))
		require.Equal(t, 11*time.Second, time.Since(begin))
	})
}

// The clock is the one of a repository, which may be any.
func TestOddClocks(t *testing.T) {
	for name, now := range map[string]func(i int) time.Time{
		"stands still":   func(int) time.Time { return time.Time{} },
		"runs backwards": func(i int) time.Time { return time.Unix(int64(-i), 0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			i := 0
			p := pace.New(rate, func() time.Time { i++; return now(i) })
			begin := time.Now()
			for range 101 {
				require.NoError(t, p.Wait(t.Context(), 1<<20))
			}
			require.InDelta(t, 10, time.Since(begin).Seconds(), 0.03, name)
		})
	}
}

func TestNoLimit(t *testing.T) {
	for _, none := range []int64{0, -1} {
		p := pace.New(none, time.Now)
		require.Nil(t, p)
		require.NoError(t, p.Wait(t.Context(), 1<<40))
		require.Equal(t, 1<<20, p.Piece())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, p.Wait(ctx, 1), context.Canceled)
	}
}

func TestPiece(t *testing.T) {
	for rate, want := range map[int64]int{
		1: 32 << 10, 1 << 20: 32 << 10, 10 << 20: 192 << 10, 50 << 20: 1 << 20, 1 << 40: 1 << 20,
	} {
		require.Equal(t, want, pace.New(rate, time.Now).Piece(), rate)
	}
}
