package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// RetryOptions are the options of [Retry]. A nil *RetryOptions, and the zero value of each field, is its default.
type RetryOptions struct {
	// Time is for how long after its first failure, or after its last byte or key, a call is tried again; two minutes by
	// default. When it is negative nothing is tried again.
	Time time.Duration

	// Stall is how long a store may take to answer, or to send another byte or key, before the attempt is given up; a
	// minute by default. To take what was written it has longer: a second for every 64 KiB besides, of all objects that
	// are being written at the time (of 256 MiB at most, but for its own), and twice as many seconds with each attempt.
	Stall time.Duration

	// Logger is told of every failure that is followed by another attempt. By default it is discarded.
	Logger *slog.Logger
}

// Bounds of the time between two attempts, and of how slow a store may be.
const (
	minRetryWait = 200 * time.Millisecond
	maxRetryWait = 15 * time.Second
	slowest      = 64 << 10  // bytes a second
	maxShared    = 256 << 20 // bytes of all; one that is streamed for hours has sent most of its own
	maxDoubled   = 4         // times
)

// Retry returns a Store that does what s does, and once more where that failed and may be different the next time: by
// default it outlasts an outage of two minutes. What has failed is repeated after a wait that grows from 0.2 to 15
// seconds, half of it random, so that the many users of a store do not come back all at once. No attempt lasts for
// ever, and the end of the context ends each call and each wait at once.
//
// Open, Stat, List and Delete are repeated as they are. A body that breaks off, or stalls, is read on from that byte, and
// a listing from that key, which is safe since objects never change. What is written is sent once more when the Writer
// of s still has it: when it has a method Again(context.Context) bool, which readies it for another Commit under that
// context, as those of bucket.New have unless the object is larger than their buffer. An object of which an earlier
// attempt was the author is an fs.ErrExist then, as [Writer] permits any store.
//
// An answer is never repeated: neither fs.ErrNotExist, nor fs.ErrExist, [ErrRefused], a full disk, or what bucket.New
// knows to be in vain, such as wrong credentials. An outage that lasts longer is the error of the last attempt. One that
// has stalled matches os.ErrDeadlineExceeded, and never the error of a context.
//
// To see each attempt, observe what is retried: Retry(Observe(s, f), nil). Observe(Retry(s, nil), f) sees the calls.
func Retry(s Store, o *RetryOptions) Store {
	r := &retrying{s: s}
	if o != nil {
		r.o = *o
	}
	if r.o.Time == 0 {
		r.o.Time = 2 * time.Minute
	}
	if r.o.Stall <= 0 {
		r.o.Stall = time.Minute
	}
	if r.o.Logger == nil {
		r.o.Logger = slog.New(slog.DiscardHandler)
	}
	return r
}

type retrying struct {
	s Store
	o RetryOptions

	written atomic.Int64 // bytes of the objects that are being written
}

func (r *retrying) Stat(ctx context.Context, key string) (info Info, err error) {
	err = r.repeat(ctx, "stat", key, func(ctx context.Context) (err error) {
		info, err = r.s.Stat(ctx, key)
		return err
	})
	return info, err
}

func (r *retrying) Delete(ctx context.Context, key string) error {
	return r.repeat(ctx, "delete", key, func(ctx context.Context) error { return r.s.Delete(ctx, key) })
}

// repeat makes a request until it is answered.
func (r *retrying) repeat(ctx context.Context, op, key string, request func(context.Context) error) error {
	for a := r.attempts(ctx, op, key); ; {
		g := r.guard(ctx)
		err := g.during(op, key, r.o.Stall, func() error { return request(g.ctx) })
		g.end()
		if err == nil {
			return nil
		}
		if !a.again(err) {
			return a.last(err)
		}
	}
}

// attempts are those of one call.
type attempts struct {
	r       *retrying
	ctx     context.Context
	op, key string
	failed  int       // in a row
	since   time.Time // of the first of these
}

func (r *retrying) attempts(ctx context.Context, op, key string) *attempts {
	return &attempts{r: r, ctx: ctx, op: op, key: key}
}

// progress is to be called when the store has sent something: it is alive.
func (a *attempts) progress() { a.failed = 0 }

// again waits until the next attempt after one that failed with err. It tells when there is none.
func (a *attempts) again(err error) bool {
	if a.ctx.Err() != nil || vain(err) {
		return false
	}
	if a.failed++; a.failed == 1 {
		a.since = now()
	}
	wait := retryWait(a.failed)
	if now().Sub(a.since)+wait > a.r.o.Time {
		return false
	}
	a.r.o.Logger.WarnContext(a.ctx, "the store has failed, will try again", "operation", a.op, "key", a.key, "wait", wait, "error", err)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.ctx.Done():
		return false
	}
}

// last is what the call fails with after an attempt that no other follows.
func (a *attempts) last(err error) error {
	if a.ctx.Err() != nil && !vain(err) {
		return objerr.Failed(a.ctx, a.op, a.key, err) // whatever the store has made of that
	}
	return err
}

// retryWait is how long to wait after so many failures in a row.
func retryWait(failures int) time.Duration {
	d := min(minRetryWait<<min(failures-1, 10), maxRetryWait)
	return d/2 + rand.N(d/2) //nolint:gosec // no secret
}

// vain tells of an error that another attempt would only repeat.
func vain(err error) bool {
	for _, answer := range []error{
		fs.ErrNotExist, fs.ErrExist, ErrRefused, ErrUnsafeStore, fs.ErrInvalid, fs.ErrClosed, fs.ErrPermission,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, errIrregular,
	} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return errors.As(err, new(*KeyError)) || errors.As(err, new(*HardLinkError)) || objerr.InVain(err)
}

var errStalled = errors.New("the store has not answered in time")

// guard gives an attempt up that stalls, by cancelling its context.
type guard struct {
	caller context.Context
	ctx    context.Context // of the attempt
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil before the first use
}

func (r *retrying) guard(ctx context.Context) *guard {
	g := &guard{caller: ctx}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

// end releases the guard.
func (g *guard) end() { g.cancel(nil) }

// during makes a request within a time limit.
func (g *guard) during(op, key string, limit time.Duration, request func() error) error {
	g.wake(limit)
	err := request()
	g.rest()
	return g.blame(op, key, limit, err)
}

func (g *guard) wake(limit time.Duration) {
	if g.timer == nil {
		g.timer = time.AfterFunc(limit, func() { g.cancel(errStalled) })
		return
	}
	g.timer.Reset(limit)
}

func (g *guard) rest() { g.timer.Stop() }

// blame says of what the guard has cut short that it has stalled, and not that somebody has cancelled it.
func (g *guard) blame(op, key string, limit time.Duration, err error) error {
	if err == nil || g.caller.Err() != nil || !errors.Is(context.Cause(g.ctx), errStalled) || !errors.Is(err, context.Canceled) {
		return err
	}
	return objerr.Failed(g.caller, op, key, fmt.Errorf("%w, which was %s: %w: %s", errStalled, limit, os.ErrDeadlineExceeded, err)) //nolint:errorlint // it matches context.Canceled
}
