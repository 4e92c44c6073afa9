package wal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// grace is how long what was received may take to become durable once the receiver is told to stop.
const grace = 10 * time.Second

// errSilent means that nothing was heard from the server for too long.
var errSilent = errors.New("wal: the server is silent")

// stream receives one timeline, from the current segment on, until the stream ends, and makes durable what has come. It
// returns where the WAL goes on when the server has left the timeline.
func (r *receiver) stream(ctx context.Context, c *pgconn.PgConn) (*pgwire.Next, error) {
	cur := r.ship.cur
	r.received = r.from()
	stream, err := pgwire.Start(ctx, c, r.options.Slot, uint32(cur.segment.Timeline), uint64(r.received))
	if err != nil {
		r.reconsider(err)
		return nil, fmt.Errorf("wal: %w", err)
	}
	r.archive.log.InfoContext(ctx, "WAL is received", "timeline", cur.segment.Timeline, "from", r.received)
	s := newStreaming(ctx, r, stream)
	defer s.close()
	if err := s.run(); err != nil {
		r.reconsider(err)
		return nil, err
	}
	next, err := stream.Next(ctx)
	if err != nil {
		return nil, fmt.Errorf("wal: end of the stream: %w", err)
	}
	return next, nil
}

// reconsider has the archive asked again where to go on, where the server refuses to go on there: it may be another server.
func (r *receiver) reconsider(err error) {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "57") && r.ship.idle() { // 57: it shuts down
		r.ship.forget()
	}
}

// streaming is a stream under way. All but read is done by Receive's own goroutine.
type streaming struct {
	*receiver
	ctx    context.Context //nolint:containedctx // of Receive
	jobs   context.Context //nolint:containedctx // of what is being stored, which goes on for a while when ctx ends
	cancel context.CancelFunc
	stream *pgwire.Stream

	messages chan incoming
	resume   chan struct{}
	quit     chan struct{}
	read     chan struct{} // closed when read has ended
	done     bool          // the server has sent all of the timeline

	ended  error // why the stream is over, while what has come is being stored
	status *time.Ticker
	silent *time.Timer
	asked  bool // the server, whether it lives
}

// incoming is what read hands over. The message is valid until read is told to resume.
type incoming struct {
	message pgwire.Message
	err     error
}

func newStreaming(ctx context.Context, r *receiver, stream *pgwire.Stream) *streaming {
	s := &streaming{
		receiver: r, ctx: ctx, stream: stream,
		messages: make(chan incoming), resume: make(chan struct{}), quit: make(chan struct{}), read: make(chan struct{}),
		status: time.NewTicker(r.options.StatusEvery), silent: time.NewTimer(r.options.Timeout / 2),
	}
	s.jobs, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go s.readAll()
	return s
}

// close ends everything that belongs to the stream.
func (s *streaming) close() {
	s.cancel()
	if !s.done {
		s.stream.Abort()
	}
	close(s.quit)
	<-s.read
	s.status.Stop()
	s.silent.Stop()
	s.ship.settle(s.ctx)
}

// readAll reads messages until the stream ends.
func (s *streaming) readAll() {
	defer close(s.read)
	for {
		m, err := s.stream.Receive()
		select {
		case s.messages <- incoming{message: m, err: err}:
		case <-s.quit:
			return
		}
		if err != nil || m.Kind == pgwire.Done {
			return
		}
		select {
		case <-s.resume:
		case <-s.quit:
			return
		}
	}
}

// over is the end of a stream for no bad reason: the server has left the timeline.
var errOver = errors.New("the timeline ended")

// run goes on until the stream is over and all that came is durable.
func (s *streaming) run() error {
	if err := s.report(false); err != nil {
		s.ended = err
	}
	stop := s.ctx.Done()
	var late <-chan time.Time
	for {
		if s.ended != nil {
			s.ship.due = true
		}
		s.ship.start(s.jobs)
		if s.ended != nil && s.ship.idle() {
			return s.end()
		}
		messages := s.messages
		if s.ended != nil || s.ship.crowded() {
			messages = nil
		}
		select {
		case in := <-messages:
			if err := s.hear(in); err != nil {
				if fatal(err) {
					return err
				}
				s.ended = err
			}
		case err := <-s.ship.done:
			if err := s.stored(err); err != nil {
				return err
			}
		case <-s.ship.cleaned:
			s.ship.cleaning = false
		case <-s.ship.timer.C:
			s.ship.expired()
		case <-s.ship.retry.C:
			s.ship.waiting = false
		case <-s.status.C:
			s.tell(false)
		case <-s.silent.C:
			s.silence()
		case <-stop:
			stop = nil
			if s.ended == nil || errors.Is(s.ended, errOver) {
				s.ended = s.ctx.Err()
			}
			timer := time.NewTimer(grace)
			defer timer.Stop()
			late = timer.C
		case <-late:
			return s.ended
		}
	}
}

// hear takes a message.
func (s *streaming) hear(in incoming) error {
	if in.err != nil {
		return fmt.Errorf("wal: receive: %w", in.err)
	}
	s.heard++
	s.asked = false
	s.silent.Reset(s.options.Timeout / 2)
	switch m := in.message; m.Kind {
	case pgwire.Done:
		s.done = true
		return errOver
	case pgwire.WAL:
		if err := s.take(m); err != nil {
			return err
		}
		s.progress()
	case pgwire.Keepalive:
		if m.Reply {
			// A server that shuts down waits until all is flushed.
			s.ship.due = true
			if err := s.report(false); err != nil {
				return err
			}
		}
	}
	s.resume <- struct{}{}
	return nil
}

// stored takes note of what has become durable.
func (s *streaming) stored(err error) error {
	whole := s.ship.under.whole
	if err := s.ship.finished(s.ctx, err); err != nil {
		return err
	}
	if err == nil {
		if whole {
			s.segments++
		}
		s.missing = nil
		s.tell(false)
		s.progress()
	}
	return nil
}

// silence asks the server whether it lives, and the second time takes it for gone. While nothing is received because
// what has come is being stored, silence says nothing.
func (s *streaming) silence() {
	s.silent.Reset(s.options.Timeout / 2)
	switch {
	case s.ended != nil, s.ship.crowded():
	case s.asked:
		s.ended = errSilent
	default:
		s.asked = true
		s.tell(true)
	}
}

// tell reports the status. When that fails the stream is over.
func (s *streaming) tell(ask bool) {
	if err := s.report(ask); err != nil && s.ended == nil {
		s.ended = err
	}
}

func (s *streaming) report(ask bool) error {
	at := uint64(s.durable())
	err := s.stream.Send(pgwire.Status{Write: at, Flush: at, Time: s.archive.repo.Now(), Reply: ask})
	if err != nil {
		return fmt.Errorf("wal: report to the server: %w", err)
	}
	return nil
}

// progress tells Options.Progress, when something is new.
func (s *streaming) progress() {
	p := ReceiveProgress{Timeline: s.ship.cur.segment.Timeline, Received: s.received, Durable: s.durable(), Segments: s.segments}
	if s.options.Progress != nil && p != s.shown {
		s.shown = p
		s.options.Progress(p)
	}
}

// end ends the stream once all is durable. One that the receiver ends, the server hears of.
func (s *streaming) end() error {
	if errors.Is(s.ended, errOver) {
		return nil
	}
	if s.ctx.Err() == nil {
		return s.ended
	}
	s.tell(false)
	if s.done || s.stream.Stop() != nil {
		return s.ended
	}
	// What is on the way has to be read, or else the system would reset the connection and lose the last report.
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select { // read may wait to be told to go on
	case s.resume <- struct{}{}:
	default:
	}
	for {
		select {
		case in := <-s.messages:
			if in.err != nil || in.message.Kind == pgwire.Done {
				return s.ended
			}
			s.resume <- struct{}{}
		case <-s.read:
			return s.ended
		case <-timer.C:
			return s.ended
		}
	}
}
