package repo

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

// failed makes a storeError. When ctx has ended, the error matches ctx's too, since what a cancelled request fails with
// is up to its driver.
func failed(ctx context.Context, op, key string, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return &storeError{op: op, key: key, err: err}
}

// missing is a store's answer that there is no such object; why, which may be nil, is the answer in the driver's words.
func missing(op, key string, why error) error { return answer(op, key, fs.ErrNotExist, why) }

// taken is a store's answer that there is such an object already; see missing.
func taken(op, key string, why error) error { return answer(op, key, fs.ErrExist, why) }

func answer(op, key string, is, why error) error {
	if why == nil {
		return &fs.PathError{Op: op, Path: key, Err: is}
	}
	return fmt.Errorf("%s %s: %w: %w", op, key, is, why)
}
