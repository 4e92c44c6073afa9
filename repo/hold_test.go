package repo_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// Any number can hold the same, for as long as they like, and nothing is left of it.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repotest.Mem(&repotest.MemOptions{Now: time.Now})
		a, b := leaser(t, s, 0), leaser(t, s, 0)
		err := a.Hold(t.Context(), "use.x", func(ctx context.Context) error {
			return b.Hold(ctx, "use.x", func(ctx context.Context) error {
				time.Sleep(time.Hour)
				held, err := b.Leases(ctx, "use.")
				require.NoError(t, err)
				require.Len(t, held, 2)
				host, err := os.Hostname()
				require.NoError(t, err)
				for _, l := range held {
					require.Regexp(t, `^use\.x\.[A-Z2-7]{26}$`, l.Name)
					require.Equal(t, []any{host, os.Getpid()}, []any{l.Host, l.PID})
					require.True(t, l.Expires.After(time.Now()) && l.Renewed.After(time.Now().Add(-time.Minute)))
				}
				none, err := b.Leases(ctx, "other")
				require.NoError(t, err)
				require.Empty(t, none)
				return errBoom
			})
		})
		require.Equal(t, errBoom, err)
		require.Empty(t, storedKeys(t, s, "leases/"))
	})
}

// Whoever cannot write reads all the same, as does who is cut off meanwhile.
func TestHoldWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repotest.Mem(&repotest.MemOptions{Now: time.Now})
		leaser(t, s, 0)
		readOnly := leaser(t, repotest.Faulty(s, repotest.Fault{Op: repotest.OpCreate, Do: repotest.Fail(repo.ErrRefused)}), 0)
		called := false
		require.NoError(t, readOnly.Hold(t.Context(), "use.x", func(context.Context) error { called = true; return nil }))
		require.True(t, called)

		cut := &switched{Store: s}
		r := leaser(t, cut, 0)
		require.NoError(t, r.Hold(t.Context(), "use.x", func(ctx context.Context) error {
			cut.down.Store(true)
			time.Sleep(time.Hour)
			cut.down.Store(false)
			return ctx.Err()
		}))
		held, err := r.Leases(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, held, 1)
		require.True(t, held[0].Expires.Before(time.Now()), "seen to be gone")

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		err = r.Hold(ended, "use.x", func(context.Context) error { return errors.New("called") })
		require.ErrorIs(t, err, context.Canceled)
	})
}
