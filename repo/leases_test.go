package repo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestLeases(t *testing.T) {
	g := newRig(t, false)
	leases := func(s repo.Store, now func() time.Time) ([]repo.LeaseInfo, error) {
		r, err := repo.Open(t.Context(), s, &repo.Options{Now: now})
		if err != nil {
			return nil, err
		}
		return r.Leases(t.Context(), "")
	}
	held, err := leases(g.store, testNow)
	require.NoError(t, err)
	require.Empty(t, held)
	require.NoError(t, g.w.WithLease(t.Context(), "one", func(ctx context.Context, _ *repo.Lease) error {
		return g.w.WithLease(ctx, "two", func(ctx context.Context, l *repo.Lease) error {
			require.NoError(t, l.Confirm(ctx))
			held, err := leases(g.store, testNow)
			require.NoError(t, err)
			require.Len(t, held, 2)
			host, err := os.Hostname()
			require.NoError(t, err)
			for i, name := range []string{"one", "two"} {
				require.Equal(t, repo.LeaseInfo{Name: name, Host: host, PID: os.Getpid(), Renewed: held[i].Renewed, Expires: held[i].Expires}, held[i])
				require.True(t, testTime.Add(2*time.Minute).Equal(held[i].Expires))
			}
			for n := 1; ; n++ {
				faulty := repotest.Faulty(g.store, repotest.Fault{Nth: n})
				held, err := leases(faulty, testNow)
				if faulty.Struck() == 0 {
					require.NoError(t, err)
					break
				}
				requireOutage(t, err)
				require.Nil(t, held)
			}
			return nil
		})
	}))
	held, err = leases(g.store, testNow)
	require.NoError(t, err)
	require.Empty(t, held, "they are released")
}

func TestSpaceOf(t *testing.T) {
	dir, err := repo.OpenDir(t.TempDir(), nil)
	require.NoError(t, err)
	for _, s := range []repo.Store{
		dir, repo.Observe(dir, func(repo.Op) {}), repo.Retry(dir, nil), repo.Retry(repo.Observe(dir, func(repo.Op) {}), nil),
	} {
		space, err := repo.SpaceOf(s)
		require.NoError(t, err)
		require.Positive(t, space.Free)
		require.GreaterOrEqual(t, space.Total, space.Free)
	}
	for _, s := range []repo.Store{repotest.Mem(nil), repo.Observe(repotest.Mem(nil), func(repo.Op) {})} {
		_, err = repo.SpaceOf(s)
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}

func ExampleRepo_Leases() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	_ = r.WithLease(ctx, "backup", func(ctx context.Context, _ *repo.Lease) error {
		held, err := r.Leases(ctx, "")
		fmt.Println(len(held), held[0].Name, err)
		return err
	})
	// Output: 1 backup <nil>
}

func ExampleSpaceOf() {
	_, err := repo.SpaceOf(repotest.Mem(nil)) // repo.OpenDir's tells
	fmt.Println(errors.Is(err, errors.ErrUnsupported))
	// Output: true
}
