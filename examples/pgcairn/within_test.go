package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWithin(t *testing.T) {
	failed := errors.New("failed")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.NoError(t, within(t.Context(), time.Minute, func(context.Context) error { return nil }))
		require.ErrorIs(t, within(t.Context(), 0, func(context.Context) error { return failed }), failed)
		require.ErrorIs(t, within(t.Context(), time.Minute, func(context.Context) error { return failed }), failed)
		require.Zero(t, time.Since(start))

		var late *timeoutError
		err := within(t.Context(), time.Minute, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		require.ErrorAs(t, err, &late)
		require.EqualError(t, err, "gave up after 1m0s: context deadline exceeded")
		require.Equal(t, time.Minute, time.Since(start))

		// As a network file system does.
		hangs := make(chan struct{})
		err = within(t.Context(), time.Minute, func(context.Context) error {
			<-hangs
			return nil
		})
		require.EqualError(t, err, "gave up after 1m0s: the repository does not answer")
		require.Equal(t, 2*time.Minute+lastWait, time.Since(start))
		close(hangs)

		// What was done in the last moment is done.
		require.NoError(t, within(t.Context(), time.Minute, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, within(ctx, time.Minute, func(ctx context.Context) error { return ctx.Err() }), context.Canceled)
	})
}

// TestTimeout: a service that stalls is given up, with words that say so.
func TestTimeout(t *testing.T) {
	h := newHost(t)
	end := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	defer service.Close()
	defer close(end)
	h = h.with("PGCAIRN_REPO="+s3URL(service.URL), "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "PGCAIRN_TIMEOUT=500ms")
	h.run(t, "wal", "push", writePath(t, h.dir, 1)).requireFailure(t, 1, "gave up after 500ms", "nothing was acknowledged")
	h.run(t, "wal", "fetch", "000000010000000000000001", filepath.Join(h.dir, "x")).requireFailure(t, 200, "gave up after 500ms", "out of reach")
}
