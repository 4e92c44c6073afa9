package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// TestUpgraded: another cluster is taken in with consent only, and its first backup is a full one that says why.
func TestUpgraded(t *testing.T) {
	t.Parallel()
	for _, kind := range []backup.Type{backup.Full, backup.Auto, backup.Differential, backup.Incremental} {
		r := newRepo(t, nil, nil)
		old := backuptest.New(&backuptest.Options{SystemID: 1, PGVersion: 150004})
		first, err := backup.Take(t.Context(), r, old, nil)
		require.NoError(t, err)
		require.Empty(t, first.Reason)
		c := backuptest.New(&backuptest.Options{SystemID: 2, PGVersion: 180001})
		c.Switch(20)
		for _, from := range []uint64{0, 2, 3} {
			_, err = backup.Take(t.Context(), r, c, &backup.Options{Type: kind, UpgradedFrom: from})
			var foreign *wal.ForeignError
			require.ErrorAs(t, err, &foreign)
			require.Equal(t, wal.ForeignError{Name: "the server", Got: 2, Want: 1}, *foreign)
		}
		require.Len(t, keys(t, r.Store(), "systems/"), 1)

		var log bytes.Buffer
		consent := &backup.Options{Type: kind, UpgradedFrom: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		second, err := backup.Take(t.Context(), r, c, consent)
		require.NoError(t, err)
		require.Equal(t, backup.Full, second.Type)
		require.Empty(t, second.Parent)
		require.Equal(t, fmt.Sprintf("the system identifier has changed from 1 to 2, and PostgreSQL from 15 to 18, since backup %s", first.ID), second.Reason)
		require.Contains(t, log.String(), second.Reason)

		// The consent may stay. The next ones build on the new cluster's.
		third, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Auto, UpgradedFrom: 1})
		require.NoError(t, err)
		require.Equal(t, second.ID, third.Parent)
		full, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		require.Empty(t, full.Reason)

		_, err = backup.Take(t.Context(), r, old, &backup.Options{UpgradedFrom: 1})
		var foreign *wal.ForeignError
		require.ErrorAs(t, err, &foreign)
		require.Equal(t, wal.ForeignError{Name: "the server", Got: 1, Want: 2, Earlier: true}, *foreign)
		back, err := backup.Take(t.Context(), r, old, &backup.Options{Type: backup.Auto, UpgradedFrom: 2})
		require.NoError(t, err)
		require.Contains(t, back.Reason, "from 2 to 1, and PostgreSQL from 18 to 15, since backup "+string(full.ID))
	}
}

// TestUpgradeWithoutBackup: the first backup of the new cluster has failed, and whoever takes the next need not know.
func TestUpgradeWithoutBackup(t *testing.T) {
	t.Parallel()
	for _, kind := range []backup.Type{backup.Full, backup.Auto} {
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, backuptest.New(&backuptest.Options{SystemID: 1}), nil)
		require.NoError(t, err)
		broken := errors.New("broken")
		var fails error
		c := backuptest.New(&backuptest.Options{SystemID: 2, Hook: func(call backuptest.Call) error {
			if call.Op == backuptest.OpFiles {
				return fails
			}
			return nil
		}})
		c.Switch(20)
		fails = broken
		_, err = backup.Take(t.Context(), r, c, &backup.Options{UpgradedFrom: 1})
		require.ErrorIs(t, err, broken)
		require.Len(t, keys(t, r.Store(), "systems/"), 2)
		require.Len(t, keys(t, r.Store(), "backups/"), 1)
		fails = nil
		m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: kind})
		require.NoError(t, err)
		require.Equal(t, backup.Full, m.Type)
		require.Contains(t, m.Reason, "the system identifier has changed from 1 to 2, since backup ")
	}
}

// TestUpgradeOnAWriteOnlyHost: what it knows of the old cluster's backups is in its state directory, if at all.
func TestUpgradeOnAWriteOnlyHost(t *testing.T) {
	t.Parallel()
	_, write := newCipher(t)
	for _, remembers := range []bool{true, false} {
		store, now, state := repotest.Mem(nil), clock(), t.TempDir()
		host := func(state string) *repo.Repo {
			r, err := repo.Init(t.Context(), store, &repo.Options{Cipher: write, StateDir: state, Now: now})
			require.NoError(t, err)
			return r
		}
		_, err := backup.Take(t.Context(), host(state), backuptest.New(&backuptest.Options{SystemID: 1, PGVersion: 170000}), nil)
		require.NoError(t, err)
		want := "the system identifier has changed from 1 to 2, and PostgreSQL from 17 to 18, since backup "
		if !remembers {
			state, want = t.TempDir(), "the system identifier has changed from 1 to 2"
		}
		c := backuptest.New(&backuptest.Options{SystemID: 2})
		m, err := backup.Take(t.Context(), host(state), c, &backup.Options{Type: backup.Auto, UpgradedFrom: 1})
		require.NoError(t, err)
		require.Equal(t, backup.Full, m.Type)
		require.Contains(t, m.Reason, want)
		next, err := backup.Take(t.Context(), host(state), c, &backup.Options{Type: backup.Auto})
		require.NoError(t, err)
		require.Equal(t, m.ID, next.Parent)
	}
}

// TestNamerAfterUpgrade: a relation's number is another relation's in another cluster.
func TestNamerAfterUpgrade(t *testing.T) {
	t.Parallel()
	r := newRepo(t, nil, nil)
	_, err := backup.NewNamer(t.Context(), r, nil)
	require.NoError(t, err, "of nothing")
	_, err = backup.Take(t.Context(), r, backuptest.New(&backuptest.Options{SystemID: 1}), nil)
	require.NoError(t, err)
	_, err = backup.NewNamer(t.Context(), r, &backup.NamerOptions{SystemID: 1})
	require.NoError(t, err)
	var foreign *wal.ForeignError
	_, err = backup.NewNamer(t.Context(), r, &backup.NamerOptions{SystemID: 2})
	require.ErrorAs(t, err, &foreign)
}

// TestRacingUpgrades: two hosts go on with two clusters that both come from the old one. The repository belongs to one of
// them, and the other stays out.
func TestRacingUpgrades(t *testing.T) {
	t.Parallel()
	for range 5 {
		store, now := repotest.Mem(nil), clock()
		host := func() *repo.Repo {
			r, err := repo.Init(t.Context(), store, &repo.Options{Now: now})
			require.NoError(t, err)
			return r
		}
		_, err := backup.Take(t.Context(), host(), backuptest.New(&backuptest.Options{SystemID: 1}), nil)
		require.NoError(t, err)
		var hosts [2]func() error
		var errs [2]error
		var wg sync.WaitGroup
		for i := range hosts {
			r, c := host(), backuptest.New(&backuptest.Options{SystemID: uint64(i + 2)})
			hosts[i] = func() error {
				_, err := backup.Take(t.Context(), r, c, &backup.Options{UpgradedFrom: 1})
				return err
			}
			wg.Go(func() { errs[i] = hosts[i]() })
		}
		wg.Wait()
		for i, err := range errs {
			var held *repo.LeaseError
			if errors.As(err, &held) { // the other was at it; now it is not
				errs[i] = hosts[i]()
			}
		}
		winner := slices.Index(errs[:], nil)
		require.GreaterOrEqual(t, winner, 0, "%v", errs)
		var foreign *wal.ForeignError
		require.ErrorAs(t, errs[1-winner], &foreign)
		require.Equal(t, wal.ForeignError{Name: "the server", Got: uint64(3 - winner), Want: uint64(winner + 2)}, *foreign)
		require.Len(t, keys(t, store, "systems/"), 2)
		require.Len(t, keys(t, store, "backups/"), 2)
	}
}
