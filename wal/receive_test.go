package wal_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// lsn is a position in a segment.
func lsn(segmentNumber uint64, offset int) wal.LSN {
	return segment(segmentNumber).Start() + wal.LSN(offset)
}

// TestReceiveFlushes: WAL of an unfinished segment is shipped FlushEvery after it came, FlushBytes when so much waits, or
// at once, and complete segments at once in any case.
func TestReceiveFlushes(t *testing.T) {
	for _, c := range []struct {
		name       string
		options    wal.ReceiveOptions
		few, wait  time.Duration // until a few bytes are durable
		many       int           // bytes
		untilThese time.Duration
	}{
		{name: "every second", few: time.Second, many: 300_000, untilThese: time.Second},
		{name: "every minute", options: wal.ReceiveOptions{FlushEvery: time.Minute}, few: time.Minute, many: 300_000, untilThese: time.Minute},
		{name: "bytes", options: wal.ReceiveOptions{FlushBytes: 100_000}, few: time.Second, many: 100_000},
		{name: "at once", options: wal.ReceiveOptions{FlushEvery: -1}, many: 300_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := openArchive(t, repotest.Mem(nil), nil)
				server := newWalsender(lsn(3, 0))
				flushed := map[wal.LSN]time.Time{}
				server.report = func(l wal.LSN) {
					if _, ok := flushed[l]; !ok {
						flushed[l] = time.Now()
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				o := c.options
				o.Connect = server.connect
				ended := make(chan error)
				go func() { ended <- a.Receive(ctx, "", &o) }()
				took := func(to wal.LSN) time.Duration {
					begun := time.Now()
					server.grow(to)
					time.Sleep(2 * time.Minute)
					synctest.Wait()
					require.Contains(t, flushed, to)
					return flushed[to].Sub(begun)
				}
				synctest.Wait()
				require.Equal(t, c.few, took(lsn(3, 9000)))
				require.Equal(t, c.untilThese, took(lsn(3, 9000+c.many)))
				require.Zero(t, took(lsn(4, 0)), "a complete segment")
				requireStreamed(t, a, segment(3), lsn(4, 0))

				// What has come when it is told to end is durable.
				server.grow(lsn(4, 777))
				synctest.Wait()
				cancel()
				require.NoError(t, <-ended)
				requireStreamed(t, a, segment(3), lsn(4, 777))
				server.cut()
			})
		})
	}
}

// TestReceiveComesBack: attempts to connect come at times that grow, and differ from each other.
func TestReceiveComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := openArchive(t, repotest.Mem(nil), nil)
		server := newWalsender(lsn(3, 5000))
		server.refuse = 10
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Receive(ctx, "", &wal.ReceiveOptions{Connect: server.connect}) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		requireStreamed(t, a, segment(3), lsn(3, 5000))
		require.Len(t, server.attempts, 11)
		most := 500 * time.Millisecond
		for i := 1; i < len(server.attempts); i++ {
			d := server.attempts[i].Sub(server.attempts[i-1])
			require.GreaterOrEqual(t, d, most/2, "%d", i)
			require.Less(t, d, most, "%d", i)
			most = min(2*most, 30*time.Second)
		}
		// What comes after a cut connection follows what came before it.
		server.cut()
		server.grow(lsn(5, 100))
		time.Sleep(time.Minute)
		synctest.Wait()
		requireStreamed(t, a, segment(3), lsn(5, 100))
		cancel()
		require.NoError(t, <-ended)
		server.cut()
	})
}

// TestReceiveNoticesSilence: a server that does not answer is gone, whatever the system says of the connection.
func TestReceiveNoticesSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := openArchive(t, repotest.Mem(nil), nil)
		server := newWalsender(lsn(3, 5000))
		server.mute = true
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Receive(ctx, "", &wal.ReceiveOptions{Connect: server.connect}) }()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.GreaterOrEqual(t, len(server.attempts), 4)
		require.InDelta(t, time.Minute, server.attempts[1].Sub(server.attempts[0]), float64(2*time.Second))
		cancel()
		require.NoError(t, <-ended)
		server.cut()
	})
}

// TestReceiveWithFaults fails every call on the store once, in three ways. No position is ever reported that the store
// does not hold, and in the end it holds all.
func TestReceiveWithFaults(t *testing.T) {
	for name, do := range map[string]repotest.Effect{"before": repotest.Fail(nil), "after": repotest.FailAfter(nil)} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				struck := 0
				synctest.Test(t, func(t *testing.T) { struck = receiveWithFault(t, repotest.Fault{Nth: n, Do: do}) })
				if struck == 0 {
					require.Greater(t, n, 20)
					break
				}
			}
		})
	}
}

func receiveWithFault(t *testing.T, f repotest.Fault) int {
	t.Helper()
	inner := repotest.Mem(nil)
	sound := openArchive(t, inner, nil)
	faulty := repotest.Faulty(inner, f)
	server := newWalsender(lsn(3, 100_000))
	server.report = func(l wal.LSN) {
		c, err := sound.Coverage(context.Background())
		held := lsn(3, 0)
		if tc := c.Timeline(1); err == nil && tc != nil {
			if n := len(tc.Ranges); n > 0 {
				held = tc.Ranges[n-1].Last.End()
			}
			if tc.Partial != nil && tc.Partial.Segment.Start() <= held {
				held = max(held, tc.Partial.End)
			}
		}
		if err != nil || l > held {
			panic(fmt.Sprintf("fault %d: %s was reported, %s is held: %v", f.Nth, l, held, err))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	start := func() {
		a, err := reopenArchive(t, faulty, nil)
		for err != nil {
			a, err = reopenArchive(t, faulty, nil)
		}
		go func() { ended <- a.Receive(ctx, "", &wal.ReceiveOptions{Connect: server.connect}) }()
	}
	start()
	for _, end := range []wal.LSN{lsn(3, 150_000), lsn(3, 400_000), lsn(4, 5000), lsn(5, 200_000)} {
		time.Sleep(5 * time.Second)
		synctest.Wait()
		server.grow(end)
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	requireStreamed(t, sound, segment(3), lsn(5, 200_000))
	cancel()
	require.NoError(t, <-ended, "fault %d", f.Nth)
	server.cut()
	return faulty.Struck()
}
