package backup

import "context"

// sentUnit is how many bytes that were sent a worker takes at a time. Some times that much is held in memory.
const sentUnit = 4 << 20

// sentSpan is a part of a file that was sent, and is to be stored.
type sentSpan struct {
	file int // index in collector.entries
	path string
	off  int64
	data []byte
}

// batches gathers what is sent in tasks: of what is in the WAL by blocks, and of what is not.
type batches struct {
	tasks chan<- task
	free  chan []byte // buffers that no task holds; nil for one that is not made yet
	open  [2]batch
}

// batch is a task that is being filled.
type batch struct {
	spans []sentSpan
	buf   []byte // what spans hold; nil before it is needed
}

// newBatches returns batches for a number of workers: one for each to work at, one that waits, and two that are filled.
func newBatches(jobs int) batches {
	b := batches{free: make(chan []byte, jobs+3)}
	for range cap(b.free) {
		b.free <- nil
	}
	return b
}

func (b *batches) of(logged bool) *batch {
	if logged {
		return &b.open[1]
	}
	return &b.open[0]
}

// room is how large a window can be without another buffer, in whole pages of any size.
func (b *batches) room(logged bool) int64 {
	o := b.of(logged)
	if room := (cap(o.buf) - len(o.buf)) / maxPageSize * maxPageSize; room > 0 {
		return int64(room)
	}
	return sentUnit
}

// window returns n bytes, sentUnit at most, behind what is kept.
func (b *batches) window(ctx context.Context, logged bool, n int64) ([]byte, error) {
	o := b.of(logged)
	if int64(cap(o.buf)-len(o.buf)) < n {
		if err := b.send(ctx, logged); err != nil {
			return nil, err
		}
		select {
		case o.buf = <-b.free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if o.buf == nil {
			o.buf = make([]byte, 0, sentUnit)
		}
	}
	return o.buf[len(o.buf) : len(o.buf)+int(n)], nil
}

// keep keeps a part of the last window, up to its end, in the task.
func (b *batches) keep(logged bool, s sentSpan) {
	o := b.of(logged)
	o.spans = append(o.spans, s)
	// Up to the end of s, which lies in the buffer.
	o.buf = o.buf[:cap(o.buf)-cap(s.data)+len(s.data)]
}

// send hands a task to the workers.
func (b *batches) send(ctx context.Context, logged bool) error {
	o := b.of(logged)
	if o.buf == nil {
		return nil
	}
	buf := o.buf[:0]
	t := task{logged: logged, sent: o.spans, release: func() { b.free <- buf }}
	*o = batch{}
	select {
	case b.tasks <- t:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *batches) flush(ctx context.Context) error {
	for _, logged := range []bool{false, true} {
		if err := b.send(ctx, logged); err != nil {
			return err
		}
	}
	return nil
}
