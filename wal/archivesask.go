package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"
)

const (
	// leaveAfter is how long one is waited for that was told to end.
	leaveAfter = time.Second
	// spared is for how many questions one that has failed, or kept somebody waiting, is asked after the others.
	spared = 64
)

// reply is what a member has answered.
type reply[T any] struct {
	from  *member
	value T
	err   error
}

// askAny asks the members, one after the other, until one has what is asked for. The next is asked as soon as one has
// answered otherwise, and beside it once it has taken longer than is good. Values that come too late are dropped.
//
// The error matches fs.ErrNotExist only when every member has answered so. An error of one and fs.ErrNotExist of the
// others says that nobody knows, which to PostgreSQL must not be the end of the WAL.
func askAny[T any](ctx context.Context, s *Archives, what string, ask func(context.Context, *Archive) (T, error), drop func(T)) (T, error) {
	var none T
	actx, cancel := context.WithCancel(ctx)
	order := s.order()
	replies, over := make(chan reply[T]), make(chan struct{})
	ended := make(chan struct{}, len(order))
	begun, running := 0, 0
	waiting := map[*member]bool{}
	defer func() {
		cancel()
		close(over)
		s.settle(ctx, what, ended, running)
	}()
	begin := func() {
		m := order[begun]
		begun++
		running++
		waiting[m] = true
		s.left.Go(func() {
			defer func() { ended <- struct{}{} }()
			r := reply[T]{from: m}
			var a *Archive
			if a, r.err = m.open(actx); r.err == nil {
				r.value, r.err = ask(actx, a)
			}
			select {
			case replies <- r:
			case <-over:
				if r.err == nil {
					drop(r.value)
				}
			}
		})
	}
	slow := time.NewTimer(s.patience)
	defer slow.Stop()
	begin()
	var failed []error
	for begun < len(order) || len(waiting) > 0 {
		select {
		case r := <-replies:
			delete(waiting, r.from)
			switch {
			case r.err == nil:
				r.from.spareFor(0)
				return r.value, nil
			case ctx.Err() != nil:
				return none, s.gaveUp(ctx, what)
			case errors.Is(r.err, fs.ErrNotExist):
				r.from.spareFor(0)
			case unclear(r.err):
				return none, fmt.Errorf("%s: %w", r.from.Name, r.err)
			default:
				r.from.spareFor(spared)
				s.log.WarnContext(ctx, "an archive fails, another is asked", "archive", r.from.Name, "what", what, "error", r.err)
				failed = append(failed, fmt.Errorf("%s: %w", r.from.Name, r.err))
			}
		case <-slow.C:
			for m := range waiting {
				m.spareFor(spared)
				s.log.WarnContext(ctx, "an archive is slow", "archive", m.Name, "what", what)
			}
		case <-ctx.Done():
			return none, s.gaveUp(ctx, what)
		}
		if begun < len(order) {
			begin()
			slow.Reset(s.patience)
		}
	}
	if len(failed) == 0 {
		return none, fmt.Errorf("wal: %s is in none of %d archives: %w", what, len(order), fs.ErrNotExist)
	}
	return none, s.failed(what, failed)
}

// unclear tells of a question that cannot be answered as it stands, which no other archive should answer by chance.
func unclear(err error) bool {
	var ambiguous *AmbiguousError
	return errors.As(err, &ambiguous)
}

// failed is the error that nobody had what was asked for, and some could not tell.
func (s *Archives) failed(what string, failed []error) error {
	return &outage{fmt.Errorf("wal: %s: %d of %d archives cannot tell: %w", what, len(failed), len(s.members), together(failed))}
}

func (s *Archives) gaveUp(ctx context.Context, what string) error {
	return &outage{fmt.Errorf("wal: %s: %w", what, ctx.Err())}
}

// settle waits for goroutines that were told to end, and leaves them behind when they do not.
func (s *Archives) settle(ctx context.Context, what string, ended <-chan struct{}, running int) {
	enough := time.NewTimer(leaveAfter)
	defer enough.Stop()
	for range running {
		select {
		case <-ended:
		case <-enough.C:
			s.log.WarnContext(ctx, "an archive hangs, and is left behind", "what", what)
			return
		}
	}
}

// leave runs something that ends with ctx, and leaves it behind when it does not.
func (s *Archives) leave(ctx context.Context, what string, run func()) {
	ended := make(chan struct{}, 1)
	s.left.Go(func() {
		defer func() { ended <- struct{}{} }()
		run()
	})
	select {
	case <-ended:
	case <-ctx.Done():
		s.settle(ctx, what, ended, 1)
	}
}

// ofEach has something done with each member, all at once. What hangs when ctx ends is left behind, and has come to what
// left returns.
func ofEach[T any](ctx context.Context, s *Archives, what string, do func(i int) T, left func(i int, err error) T) []T {
	all := make([]T, len(s.members))
	var each sync.WaitGroup
	for i := range all {
		each.Go(func() {
			done := make(chan T, 1)
			s.leave(ctx, what, func() { done <- do(i) })
			select {
			case all[i] = <-done:
			default:
				all[i] = left(i, fmt.Errorf("wal: %s: %w", what, ctx.Err()))
			}
		})
	}
	each.Wait()
	return all
}

// order is that in which the members are asked: those that have failed lately come last.
func (s *Archives) order() []*member {
	var good, bad []*member
	for _, m := range s.members {
		m.mu.Lock()
		if m.spare > 0 {
			m.spare--
			bad = append(bad, m)
		} else {
			good = append(good, m)
		}
		m.mu.Unlock()
	}
	return slices.Concat(good, bad)
}

func (m *member) spareFor(questions int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spare = questions
}
