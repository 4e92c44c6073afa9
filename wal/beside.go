package wal

import (
	"context"
	"sync"
	"time"
)

// limits bound what is done beside the one thing that was asked for.
type limits struct {
	jobs int              // done at a time, the one asked for among them
	time time.Duration    // after which no neighbour is begun; 0 is no limit
	now  func() time.Time // the clock
}

// beside does what is asked for, and beside it neighbours 0 to n-1, begun in that order. It returns the error of asked,
// which may be nil for nothing, when everything has ended; begun is how many neighbours were begun.
//
// No neighbour is begun once asked has failed, one has returned false, or the time is over. Those under way are
// cancelled when asked has failed, and when it has succeeded but they take more than the limit of time and more than
// twice as long as asked took: whoever waits for the one does not wait forever for the others, and on a slow road, where
// all take long, their work is not thrown away.
func beside(ctx context.Context, l limits, asked func(context.Context) error, n int, neighbour func(ctx context.Context, i int) bool) (begun int, err error) {
	nctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	end := sync.OnceFunc(func() { close(ended) })
	if l.time > 0 {
		defer time.AfterFunc(l.time, end).Stop()
	}
	slots := make(chan struct{}, max(1, l.jobs))
	var group sync.WaitGroup
	var patience *time.Timer
	if asked != nil {
		slots <- struct{}{}
		start := l.now()
		group.Go(func() {
			defer func() { <-slots }()
			if err = asked(ctx); err != nil {
				end()
				cancel()
				return
			}
			if l.time > 0 {
				took := l.now().Sub(start)
				patience = time.AfterFunc(max(l.time-took, took), cancel)
			}
		})
	}
	for begun < n && waitFor(slots, ended, nctx.Done()) {
		i := begun
		begun++
		group.Go(func() {
			defer func() { <-slots }()
			if !neighbour(nctx, i) {
				end()
			}
		})
	}
	group.Wait()
	if patience != nil {
		patience.Stop()
	}
	return begun, err
}

// waitFor takes a slot, unless one of the others closes before.
func waitFor(slots chan struct{}, ended, done <-chan struct{}) bool {
	select {
	case <-ended:
		return false
	case <-done:
		return false
	case slots <- struct{}{}:
	}
	// Of several that were ready, any may have been chosen.
	select {
	case <-ended:
	case <-done:
	default:
		return true
	}
	<-slots
	return false
}
