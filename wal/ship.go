package wal

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"
)

// Bounds of what a shipper holds.
const (
	maxWaiting   = 2        // complete segments that wait to be archived, until nothing more is received
	minPieceStep = 64 << 10 // bytes: a piece that is shorter is shipped again with what comes after it
	deleters     = 4
)

// shipper makes what was received durable, in order: complete segments as such, the rest in pieces. One goroutine
// calls its methods; it has one job under way at a time, in a goroutine of its own.
type shipper struct {
	archive *Archive
	system  System
	every   time.Duration
	bytes   int64

	cur     *spool  // being received; nil before the first
	shipped uint32  // of cur: how many bytes are durable
	anchor  uint32  // of cur: where the next piece starts
	pieces  []piece // of cur, that are there
	resume  *piece  // of cur: to be compared with what is received before anything else counts as durable
	full    []complete
	spare   *spool

	durable  LSN // all before it is
	under    *job
	done     chan error
	due      bool // a piece is to be shipped at once
	timer    *time.Timer
	timing   bool // timer runs
	retry    *time.Timer
	waiting  bool // for retry
	failures int

	garbage  []string
	cleaning bool
	cleaned  chan struct{}
}

// complete is a segment that has been received to its end.
type complete struct {
	spool  *spool
	pieces []piece
}

// job is something that is being made durable: a piece, or a whole segment.
type job struct {
	spool *spool
	piece piece
	whole bool
}

func newShipper(a *Archive, sys System, every time.Duration, bytes int64) *shipper {
	s := &shipper{
		archive: a, system: sys, every: every, bytes: bytes,
		done: make(chan error, 1), cleaned: make(chan struct{}, 1),
		timer: time.NewTimer(time.Hour), retry: time.NewTimer(time.Hour),
	}
	s.timer.Stop()
	s.retry.Stop()
	return s
}

// begin goes on with a segment of which there are pieces. Those that lead to where cur ends were read into it. Where none
// could be read, cur is empty, and what is received is compared with the last of them.
func (s *shipper) begin(cur *spool, there []piece) {
	s.cur, s.pieces, s.resume = cur, there, nil
	s.shipped, s.anchor = cur.end, cur.end
	if known := chain(there); cur.end == 0 && len(known) > 0 {
		s.resume = &known[len(known)-1]
		s.anchor = s.resume.from
	}
	s.durable = cur.pos()
	s.due, s.timing = false, false
	s.timer.Stop()
}

// received takes note of bytes that were appended to cur. A complete one makes room for the next, which it returns.
func (s *shipper) received(next func(*spool) (*spool, error)) error {
	if s.cur.room() == 0 {
		s.full = append(s.full, complete{spool: s.cur, pieces: s.pieces})
		cur, err := next(s.spare)
		if err != nil {
			return err
		}
		s.cur, s.spare, s.pieces, s.resume, s.shipped, s.anchor = cur, nil, nil, nil, 0, 0
	}
	switch {
	case s.unshipped() == 0:
	case s.every < 0 || s.bytes > 0 && int64(s.unshipped()) >= s.bytes:
		s.due = true
	case !s.timing:
		s.timing = true
		s.timer.Reset(s.every)
	}
	return nil
}

// unshipped is how many bytes of cur are neither durable nor being made so.
func (s *shipper) unshipped() uint32 {
	if s.cur == nil {
		return 0
	}
	if s.resume != nil && s.cur.end < s.resume.to {
		return 0 // a piece has it
	}
	done := s.shipped
	if s.under != nil && s.under.spool == s.cur {
		done = max(done, s.under.piece.to)
	}
	return s.cur.end - min(done, s.cur.end)
}

// expired is to be called when the timer has.
func (s *shipper) expired() { s.timing, s.due = false, true }

// idle tells that all is durable.
func (s *shipper) idle() bool { return s.under == nil && len(s.full) == 0 && s.unshipped() == 0 }

// crowded tells that nothing more should be received until some of what there is has been archived.
func (s *shipper) crowded() bool { return len(s.full) >= maxWaiting }

// start starts what is to be done next, if anything is.
func (s *shipper) start(ctx context.Context) {
	if s.under == nil && !s.waiting {
		s.under = s.next()
		if j := s.under; j != nil {
			go func() { s.done <- s.archive.ship(ctx, s.system, j) }()
		}
	}
	if len(s.garbage) > 0 && !s.cleaning {
		keys := s.garbage
		s.garbage, s.cleaning = nil, true
		go func() {
			s.archive.discard(ctx, keys)
			s.cleaned <- struct{}{}
		}()
	}
}

// next decides what to do next.
func (s *shipper) next() *job {
	if len(s.full) > 0 {
		return &job{spool: s.full[0].spool, whole: true}
	}
	if s.unshipped() == 0 {
		s.due = false
	}
	if !s.due {
		return nil
	}
	if s.resume != nil {
		return &job{spool: s.cur, piece: *s.resume}
	}
	s.due = false
	return &job{spool: s.cur, piece: piece{segment: s.cur.segment, from: s.anchor, to: s.cur.end}}
}

// finished takes note of how the job has ended. It returns what cannot be put right by trying again.
func (s *shipper) finished(ctx context.Context, err error) error {
	j := s.under
	s.under = nil
	if err != nil {
		if fatal(err) {
			return err
		}
		s.failures++
		wait := backoff(s.failures)
		s.archive.log.WarnContext(ctx, "WAL could not be stored, will try again", "segment", j.spool.segment, "wait", wait, "error", err)
		s.due, s.waiting = true, true
		s.retry.Reset(wait)
		return nil
	}
	s.failures = 0
	if j.whole {
		first := s.full[0]
		s.full = s.full[1:]
		s.durable = first.spool.segment.End()
		s.drop(first.pieces)
		first.spool.close()
		s.spare = first.spool
		return nil
	}
	s.durable = j.spool.segment.Start() + LSN(j.piece.to)
	if j.spool == s.cur {
		s.tookPiece(j.piece)
	} else {
		s.full[0].pieces = append(s.full[0].pieces, j.piece) // it became complete meanwhile
	}
	return nil
}

// tookPiece takes note of a piece of cur. It takes the place of those that start where it does.
func (s *shipper) tookPiece(p piece) {
	s.resume = nil
	kept := s.pieces[:0:0]
	for _, old := range s.pieces {
		if old.from == p.from && old.to <= p.to {
			if old != p {
				s.drop([]piece{old})
			}
			continue
		}
		kept = append(kept, old)
	}
	kept = append(kept, p)
	s.pieces, s.shipped = kept, p.to
	if p.to-p.from >= max(minPieceStep, p.segment.Size/1024) {
		s.anchor = p.to
	}
}

func (s *shipper) drop(pieces []piece) {
	for _, p := range pieces {
		s.garbage = append(s.garbage, s.system.pieceKey(p))
	}
}

// forget lets go of the current segment, when all is idle.
func (s *shipper) forget() {
	if s.cur != nil && s.under == nil {
		s.cur.close()
		s.cur = nil
	}
}

// settle waits for what is under way, whose context must have been cancelled. What came to a good end counts.
func (s *shipper) settle(ctx context.Context) {
	if s.under != nil {
		if err := <-s.done; err != nil || s.finished(ctx, nil) != nil {
			s.under = nil
		}
	}
	if s.cleaning {
		<-s.cleaned
		s.cleaning = false
	}
}

// close releases everything, when nothing is under way any more.
func (s *shipper) close() {
	s.timer.Stop()
	s.retry.Stop()
	for _, f := range s.full {
		f.spool.close()
	}
	if s.cur != nil {
		s.cur.close()
	}
	s.full, s.cur = nil, nil
}

// ship does a job.
func (a *Archive) ship(ctx context.Context, sys System, j *job) error {
	if !j.whole {
		return a.putPiece(ctx, sys, j.piece, j.spool)
	}
	n, err := ParseName(j.spool.segment.Name())
	if err != nil {
		return err
	}
	return a.PushContent(ctx, n, j.spool, int64(j.spool.segment.Size))
}

// discard deletes pieces that are not needed any more. With credentials that may not delete they stay, which does no
// harm.
func (a *Archive) discard(ctx context.Context, keys []string) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deleters)
	for _, key := range keys {
		g.Go(func() error { return a.repo.Store().Delete(gctx, key) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		a.log.InfoContext(ctx, "pieces that are not needed any more could not be deleted", "error", err)
	}
}
