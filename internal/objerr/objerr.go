// Package objerr makes the errors of a repo.Store, so that "it is not there" and "it could not be told" are never
// confused.
package objerr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// storeError is a store's failure that says nothing about whether an object exists. The error inside may well match
// fs.ErrNotExist or fs.ErrExist for reasons of its own (a credentials file that is gone, a proxy's socket, a directory
// in the way), so these two do not show through: whoever asks for a segment would take an outage for the end of the
// archive. Everything else does.
type storeError struct {
	op, key string
	err     error
}

func (e *storeError) Error() string { return e.op + " " + e.key + ": " + e.err.Error() }

func (e *storeError) Is(target error) bool {
	return target != fs.ErrNotExist && target != fs.ErrExist && errors.Is(e.err, target)
}

func (e *storeError) As(target any) bool { return errors.As(e.err, target) }

// Failed makes a storeError. When ctx has ended, the error matches ctx's too, since what a cancelled request fails with
// is up to its driver.
func Failed(ctx context.Context, op, key string, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &storeError{op: op, key: key, err: err}
}

// Closed is what a Writer or body fails with that is used after its end.
func Closed(op, key string) error { return &storeError{op: op, key: key, err: fs.ErrClosed} }

// Missing is a store's answer that there is no such object; why, which may be nil, is the answer in the driver's words.
func Missing(op, key string, why error) error { return answer(op, key, fs.ErrNotExist, why) }

// Taken is a store's answer that there is such an object already; see [Missing].
func Taken(op, key string, why error) error { return answer(op, key, fs.ErrExist, why) }

func answer(op, key string, is, why error) error {
	if why == nil {
		return &fs.PathError{Op: op, Path: key, Err: is}
	}
	return fmt.Errorf("%s %s: %w: %w", op, key, is, why)
}

// vain marks an error that will be the same however often one asks.
type vain struct{ error }

func (e vain) Unwrap() error { return e.error }

// Vain marks an error as one that will be the same however often one asks.
func Vain(err error) error { return vain{err} }

// InVain tells whether an error, or one inside it, is marked by [Vain].
func InVain(err error) bool { return errors.As(err, new(vain)) }
