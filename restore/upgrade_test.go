package restore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// upgraded is a repository that has belonged to two clusters, whose WAL has the same names.
type upgraded struct {
	repo     *repo.Repo
	old, new *backuptest.Cluster
	was, is  *backup.Manifest
}

func newUpgraded(t *testing.T) *upgraded {
	t.Helper()
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := func() time.Time { // one for all
		clock = clock.Add(time.Second)
		return clock
	}
	u := &upgraded{
		old: backuptest.New(&backuptest.Options{SystemID: 1, PGVersion: 170004, Now: now, Logged: true}),
		new: backuptest.New(&backuptest.Options{SystemID: 2, Now: now, Logged: true}),
	}
	u.new.Write("base/5/99999", backuptest.Pages(0, 3, 1, "of the new one"))
	var err error
	u.repo, err = repo.Init(t.Context(), repotest.Mem(nil), &repo.Options{Now: now})
	require.NoError(t, err)
	take := func(c *backuptest.Cluster, o *backup.Options) *backup.Manifest {
		m, err := backup.Take(t.Context(), u.repo, c, o)
		require.NoError(t, err)
		a, err := wal.NewArchive(u.repo, nil)
		require.NoError(t, err)
		clock = clock.Add(time.Minute)
		c.Commit() // which recovery to a time before ends at
		c.Switch(2)
		require.NoError(t, c.Archive(t.Context(), a))
		return m
	}
	u.was = take(u.old, nil)
	clock = clock.Add(time.Hour)
	u.is = take(u.new, &backup.Options{UpgradedFrom: 1})
	return u
}

// TestRestoreAfterUpgrade: what is restored is of one cluster, files and WAL, whichever it is.
func TestRestoreAfterUpgrade(t *testing.T) {
	t.Parallel()
	u := newUpgraded(t)
	before := restore.AtTime(u.was.StoppedAt.Add(time.Second))
	for name, tt := range map[string]struct {
		target  restore.Target
		options *restore.PlanOptions
		want    *backup.Manifest
		warns   bool
	}{
		"the end":                    {restore.Latest(), nil, u.is, false},
		"the consistent state":       {restore.Immediate(), nil, u.is, false},
		"a time":                     {restore.AtTime(u.is.StoppedAt.Add(time.Second)), nil, u.is, false},
		"a time before":              {before, nil, u.was, true},
		"the end of the old one":     {restore.Latest(), &restore.PlanOptions{SystemID: 1}, u.was, true},
		"the end of the new one":     {restore.Latest(), &restore.PlanOptions{SystemID: 2}, u.is, false},
		"an old backup":              {restore.Latest(), &restore.PlanOptions{Backup: u.was.ID}, u.was, true},
		"an old backup of that":      {restore.Immediate(), &restore.PlanOptions{Backup: u.was.ID, SystemID: 1}, u.was, true},
		"a new backup":               {restore.Latest(), &restore.PlanOptions{Backup: u.is.ID}, u.is, false},
		"a position, of the new one": {restore.AtLSN(u.is.StopLSN), nil, u.is, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := restore.Prepare(t.Context(), u.repo, tt.target, tt.options)
			require.NoError(t, err)
			require.Equal(t, tt.want.ID, p.Backup.ID)
			require.Equal(t, tt.warns, len(p.Warnings) > 0 && p.Warnings[len(p.Warnings)-1] ==
				"this is the cluster of system identifier 1, to which the repository belonged before 2", p.Warnings)
			dir := newDir(t)
			_, err = p.Run(t.Context(), u.repo, dir, nil)
			require.NoError(t, err)
			c := u.new
			if tt.want == u.was {
				c = u.old
			}
			require.NoError(t, c.Compare(dir))
			for _, r := range p.WAL {
				for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
					want, err := c.WAL(s.Name())
					require.NoError(t, err)
					got, err := os.ReadFile(filepath.Join(dir, "pg_wal", s.Name()))
					require.NoError(t, err)
					require.Equal(t, want, got, s.Name())
				}
			}
			text, err := p.MarshalJSON()
			require.NoError(t, err)
			require.Contains(t, string(text), fmt.Sprintf(`"system_id":"%d"`, tt.want.SystemID))
		})
	}
}

// TestUnreachableAfterUpgrade: the old cluster never stands in for the new one.
func TestUnreachableAfterUpgrade(t *testing.T) {
	t.Parallel()
	u := newUpgraded(t)
	for name, tt := range map[string]struct {
		target  restore.Target
		options *restore.PlanOptions
		reason  string
	}{
		"a backup of another": {restore.Latest(), &restore.PlanOptions{Backup: u.is.ID, SystemID: 1}, "of system identifier 1, only of 2"},
		"a time before all":   {restore.AtTime(u.was.StartedAt.Add(-time.Hour)), nil, "every backup ended after the target"},
		"a time between":      {restore.AtTime(u.is.StoppedAt.Add(-time.Minute)), nil, "every backup ended after the target; of the cluster of system identifier 1: in the WAL no transaction ended after it"},
		"a position":          {restore.AtLSN(u.is.StartLSN - 1), nil, "every backup ended after the target"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := restore.Prepare(t.Context(), u.repo, tt.target, tt.options)
			var unreachable *restore.UnreachableError
			require.ErrorAs(t, err, &unreachable)
			require.Contains(t, unreachable.Reason, tt.reason)
		})
	}
	var foreign *wal.ForeignError
	_, err := restore.Prepare(t.Context(), u.repo, restore.Latest(), &restore.PlanOptions{SystemID: 3})
	require.ErrorAs(t, err, &foreign)

	// Its backup is lost, or was never taken: then there is only the old cluster, for who asks for it.
	require.NoError(t, u.repo.Store().Delete(t.Context(), "backups/"+string(u.is.ID)))
	var unreachable *restore.UnreachableError
	_, err = restore.Prepare(t.Context(), u.repo, restore.Latest(), nil)
	require.ErrorAs(t, err, &unreachable)
	require.Equal(t, "there is no backup of system identifier 2, only of 1", unreachable.Reason)
	for _, o := range []*restore.PlanOptions{{SystemID: 1}, {Backup: u.was.ID}} {
		p, err := restore.Prepare(t.Context(), u.repo, restore.Latest(), o)
		require.NoError(t, err)
		require.Equal(t, u.was.ID, p.Backup.ID)
	}

	// The WAL of one is no help to the other.
	require.NoError(t, u.repo.Store().Delete(t.Context(), "wal/1/00000001/00000000000000/"+u.was.FirstSegment().Name()))
	_, err = restore.Prepare(t.Context(), u.repo, restore.Latest(), &restore.PlanOptions{SystemID: 1})
	require.ErrorAs(t, err, &unreachable)
	require.Contains(t, unreachable.Reason, "is not archived")
}
