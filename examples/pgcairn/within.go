package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// timeoutError means that a command took longer than its --timeout.
type timeoutError struct {
	after time.Duration
	err   error // what it ended with, once told to; nil when it did not end
}

func (e *timeoutError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("gave up after %s: the repository does not answer", e.after)
	}
	return fmt.Sprintf("gave up after %s: %v", e.after, e.err)
}

func (e *timeoutError) Unwrap() error { return e.err }

// lastWait is how long one who was told to end may take for it. A network file system that hangs takes forever.
const lastWait = 2 * time.Second

// within runs f for so long at most; 0 is forever.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	if limit == 0 {
		return f(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done:
		case <-time.After(lastWait):
			return &timeoutError{after: limit} // the end of the process is the end of f
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		return &timeoutError{after: limit, err: err}
	}
	return err
}

// socketError means that there is nobody at the socket.
type socketError struct {
	socket string
	err    error
}

func (e *socketError) Error() string { return e.err.Error() }
func (e *socketError) Unwrap() error { return e.err }

// reach marks the errors of one who did not get to the program behind a socket.
func reach(socket string, err error) error {
	var failed *net.OpError
	if errors.As(err, &failed) {
		return &socketError{socket, err}
	}
	return err
}
