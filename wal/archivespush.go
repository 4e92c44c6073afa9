package wal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// MemberPushed is what a push has come to in one of [Archives].
type MemberPushed struct {
	Name string // of the member
	// Pushed tells of every file; nil where the archive was not opened, or lags.
	Pushed *Pushed
	// Err is nil when the file asked for is durable in this archive.
	Err error
}

// Push is [Archive.Push] to all archives at once, each with its own progress. It returns nil only when the file is
// durable in as many of them as the options' Durable says, and waits for others no longer than Lag after that. A
// *[ConflictError], *[ForeignError] or *[SegmentError] of any one is the error in any case, once the others have ended or
// Lag is over.
//
// Where an archive fails so that there cannot be enough, the others are waited for as long as ctx allows: what they take
// they need not take again.
func (s *Archives) Push(ctx context.Context, path string) error {
	push := func(ctx context.Context, a *Archive) (*Pushed, error) { return nil, a.Push(ctx, path) }
	_, err := s.push(ctx, path, push, func(context.Context, *Archive, time.Duration) {})
	return err
}

// PushAsked is [Archive.PushAsked] to all archives at once, with the policy of [Archives.Push]. Each clears its own
// backlog. One that was out of reach for a while also gets what PostgreSQL takes for archived and still has in pg_wal,
// from the same timeline, and the histories of those that began lately: what it lacks is told by the archive itself, so that
// nothing needs to be remembered. What pg_wal does not have any more takes [Archives.Heal]. That comes after the file asked for, and has no part in the result:
// the call waits for it no longer than the longest of the options' Time, Lag, and twice as long as the push took there.
//
// The results are those of the members, in their order.
func (s *Archives) PushAsked(ctx context.Context, path string, o *ReadyOptions) ([]MemberPushed, error) {
	push := func(ctx context.Context, a *Archive) (*Pushed, error) { return a.PushAsked(ctx, path, o) }
	return s.push(ctx, path, push, func(ctx context.Context, a *Archive, took time.Duration) {
		l, files := o.limits(a)
		// They share the road: no more at a time than can end in time, so that what is begun is not thrown away.
		if most := l.time / max(2*took, 1); most < time.Duration(l.jobs) {
			l.jobs = max(1, int(most))
		}
		ctx, cancel := context.WithTimeout(ctx, max(l.time, s.lag, 2*took))
		defer cancel()
		s.leave(ctx, "catch up", func() { a.catchUp(ctx, path, l, files) })
	})
}

// push has a file pushed to all archives, by the policy. In those that have it in time, then follows, beside the others:
// it is told how long the push took, and waited for, but has no part in the result.
func (s *Archives) push(
	ctx context.Context, path string,
	push func(context.Context, *Archive) (*Pushed, error), then func(ctx context.Context, a *Archive, took time.Duration),
) ([]MemberPushed, error) {
	what := "push " + filepath.Base(path)
	pctx, cancel := context.WithCancel(ctx)
	type result struct {
		member int
		MemberPushed
		archive *Archive
		took    time.Duration
	}
	results, over := make(chan result), make(chan struct{})
	ended := make(chan struct{}, len(s.members))
	all := make([]MemberPushed, len(s.members))
	for i, m := range s.members {
		all[i] = MemberPushed{Name: m.Name, Err: errLags}
		s.left.Go(func() {
			defer func() { ended <- struct{}{} }()
			r := result{member: i, MemberPushed: MemberPushed{Name: m.Name}}
			if r.archive, r.Err = m.open(pctx); r.Err == nil {
				begun := r.archive.repo.Now()
				r.Pushed, r.Err = push(pctx, r.archive)
				r.took = r.archive.repo.Now().Sub(begun)
			}
			select {
			case results <- r:
			case <-over:
			}
		})
	}
	var following sync.WaitGroup
	defer func() {
		cancel()
		close(over)
		s.settle(ctx, what, ended, len(all))
		following.Wait()
	}()
	lag := time.NewTimer(time.Hour)
	lag.Stop()
	defer lag.Stop()
	durable, waited := 0, false
	var refused together
	for left := len(all); left > 0; {
		select {
		case r := <-results:
			left--
			all[r.member] = r.MemberPushed
			switch {
			case r.Err == nil:
				durable++
				following.Go(func() { then(ctx, r.archive, r.took) })
			case ownFault(r.Err):
				refused = append(refused, fmt.Errorf("%s: %w", r.Name, r.Err))
			}
			if !waited && (durable >= s.durable || len(refused) > 0) {
				waited = true
				lag.Reset(max(s.lag, 0))
			}
		case <-lag.C:
			left = 0
		case <-ctx.Done():
			left = 0
		}
	}
	return all, s.verdict(ctx, what, all, durable, refused)
}

// verdict decides what a push has come to.
func (s *Archives) verdict(ctx context.Context, what string, all []MemberPushed, durable int, refused together) error {
	var failed together
	for i := range all {
		r := &all[i]
		if errors.Is(r.Err, errLags) && ctx.Err() != nil {
			r.Err = fmt.Errorf("wal: %s: %w", what, ctx.Err())
		}
		if r.Err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.Name, r.Err))
		}
	}
	if len(refused) == 0 && durable >= s.durable {
		for _, err := range failed {
			s.log.WarnContext(ctx, "a file is durable in enough archives, but not in this one", "what", what, "error", err)
		}
		return nil
	}
	if len(refused) > 0 {
		return fmt.Errorf("wal: %s: refused by %d of %d archives: %w", what, len(refused), len(all), refused)
	}
	return fmt.Errorf("wal: %s: durable in %d of %d archives, and it should be in %d: %w", what, durable, len(all), s.durable, failed)
}
