package objerr_test

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

func TestAFailureAnswersNothing(t *testing.T) {
	inner := errors.Join(&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}, syscall.EEXIST, syscall.EIO)
	err := objerr.Failed(t.Context(), "stat", "a", inner)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, fs.ErrExist)
	require.ErrorIs(t, err, syscall.EIO)
	var pathErr *fs.PathError
	require.ErrorAs(t, err, &pathErr)
}

func TestAFailureOfACancelledRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := objerr.Failed(ctx, "stat", "a", syscall.EIO)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, syscall.EIO)
}

func TestAnswers(t *testing.T) {
	why := errors.New("404")
	for is, answer := range map[error]func(op, key string, why error) error{fs.ErrNotExist: objerr.Missing, fs.ErrExist: objerr.Taken} {
		require.ErrorIs(t, answer("stat", "a/b", nil), is)
		require.ErrorContains(t, answer("stat", "a/b", nil), "a/b")
		require.ErrorIs(t, answer("stat", "a/b", why), is)
		require.ErrorIs(t, answer("stat", "a/b", why), why)
	}
	require.ErrorIs(t, objerr.Closed("write", "a"), fs.ErrClosed)
}
