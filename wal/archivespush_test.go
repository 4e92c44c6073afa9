package wal_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// requireWhole demands that a store holds a segment as it was made.
func requireWhole(t testing.TB, s repo.Store, number uint64) {
	t.Helper()
	a, err := reopenArchive(t, s, nil)
	require.NoError(t, err)
	require.Equal(t, digest(content(segment(number))), digest(read(t, a, segment(number).Name())))
}

// lacks tells whether a store does not hold a segment.
func lacks(t testing.TB, s repo.Store, number uint64) bool {
	t.Helper()
	a, err := reopenArchive(t, s, nil)
	require.NoError(t, err)
	has, err := a.Has(t.Context(), parseName(t, segment(number).Name()))
	require.NoError(t, err)
	return !has
}

// TestPushToSeveral: success is what the policy says, nobody is waited for longer than it says, and whoever works has the
// segment.
func TestPushToSeveral(t *testing.T) {
	conflict := func(t *testing.T) repo.Store {
		s := heldSegments(t, 1, 2)
		other := content(segment(2))
		other[5000]++
		a, err := reopenArchive(t, s, nil)
		require.NoError(t, err)
		require.NoError(t, push(t, a, segment(2).Name(), other))
		return s
	}
	foreign := func(t *testing.T) repo.Store {
		s := repotest.Mem(nil)
		require.NoError(t, push(t, openArchive(t, s, nil), segment(1).Name(), waltest.Segment(segment(1), 4711, 18)))
		return s
	}
	const works, fails, stalls, hangs, conflicts, isForeign = "works", "fails", "stalls", "hangs", "conflicts", "is foreign"
	for _, c := range []struct {
		members []string
		durable int
		ok      bool
		error   string
		takes   time.Duration
	}{
		{members: []string{works, works}, ok: true},
		{members: []string{works, fails}, error: "durable in 1 of 2 archives, and it should be in 2"},
		{members: []string{fails, works}, durable: 1, ok: true},
		{members: []string{fails, fails}, durable: 1, error: "durable in 0 of 2"},
		{members: []string{works, stalls}, durable: 1, ok: true, takes: 5 * time.Second},
		{members: []string{works, stalls}, error: "durable in 1 of 2", takes: time.Minute},
		{members: []string{works, hangs}, durable: 1, ok: true, takes: 6 * time.Second},
		{members: []string{hangs, works, works}, durable: 2, ok: true, takes: 6 * time.Second},
		{members: []string{stalls, works, fails}, durable: 1, ok: true, takes: 5 * time.Second},
		{members: []string{stalls, works, fails}, durable: 2, error: "durable in 1 of 3", takes: time.Minute},
		{members: []string{works, conflicts}, durable: 1, error: "is archived already with other content"},
		{members: []string{conflicts, stalls}, error: "is archived already with other content", takes: 5 * time.Second},
		{members: []string{works, isForeign}, durable: 1, error: "this repository belongs to system identifier 4711"},
	} {
		t.Run(fmt.Sprint(c.members, c.durable), func(t *testing.T) {
			path := place(t, t.TempDir(), segment(2).Name(), content(segment(2)))
			synctest.Test(t, func(t *testing.T) {
				var members []wal.Member
				var sound []repo.Store
				release := make(chan struct{})
				for i, how := range c.members {
					var s repo.Store
					switch how {
					case works:
						s = heldSegments(t, 1, 2)
						sound = append(sound, s)
					case fails:
						s = repotest.Faulty(heldSegments(t, 1, 2), repotest.Fault{Op: repotest.OpCommit})
					case stalls:
						s = repotest.Faulty(heldSegments(t, 1, 2), repotest.Fault{Op: repotest.OpCommit, Do: repotest.Stall()})
					case hangs:
						s = &hangingStore{heldSegments(t, 1, 2), release}
					case conflicts:
						s = conflict(t)
					case isForeign:
						s = foreign(t)
					}
					members = append(members, memberOf(fmt.Sprint(how, i), s))
				}
				s := join(t, &wal.ArchivesOptions{Durable: c.durable}, members...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				begun := time.Now()
				all, err := s.PushAsked(ctx, path, nil)
				require.Equal(t, c.takes, time.Since(begun))
				if c.ok {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, c.error)
				}
				require.Len(t, all, len(members))
				for i, how := range c.members {
					require.Equal(t, how == works, all[i].Err == nil, "%v", all[i])
				}
				for _, store := range sound {
					requireWhole(t, store, 2)
				}
				var refused *wal.ConflictError
				var other *wal.ForeignError
				require.Equal(t, c.error != "" && c.members[len(c.members)-1] == isForeign, errors.As(err, &other))
				require.Equal(t, c.members[0] == conflicts || c.members[1] == conflicts, errors.As(err, &refused))
				close(release)
				require.NoError(t, s.Close())
			})
		})
	}
}

// TestPushToSeveralAtEveryOutage fails each single call on the store of one of two. Nothing is acknowledged that the policy
// does not cover, the other has the segment in any case, and a second push brings it to both.
func TestPushToSeveralAtEveryOutage(t *testing.T) {
	path := place(t, t.TempDir(), segment(2).Name(), content(segment(2)))
	for _, durable := range []int{1, 2} {
		for _, effect := range []repotest.Effect{repotest.Fail(nil), repotest.FailAfter(nil), repotest.Cut(100)} {
			for n := 1; ; n++ {
				sound, broken := heldSegments(t, 1, 2), heldSegments(t, 1, 2)
				faulty := repotest.Faulty(broken, repotest.Fault{Nth: n, Do: effect})
				s := join(t, &wal.ArchivesOptions{Durable: durable}, memberOf("broken", faulty), memberOf("sound", sound))
				err := s.Push(t.Context(), path)
				requireWhole(t, sound, 2)
				if err == nil && durable == 2 {
					requireWhole(t, broken, 2)
				}
				if durable == 1 {
					require.NoError(t, err)
				}
				if faulty.Struck() == 0 {
					require.Greater(t, n, 3)
					break
				}
				require.NoError(t, s.Push(t.Context(), path))
				requireWhole(t, broken, 2)
			}
		}
	}
}

// TestCatchUp has one of two archives out of reach for a while. When it is back, it gets from pg_wal what it lacks, which
// no process has to remember.
func TestCatchUp(t *testing.T) {
	near, far := repotest.Mem(nil), repotest.Mem(nil)
	openArchive(t, near, nil)
	openArchive(t, far, nil)
	p := newPgwal(t)
	asked := func(number uint64, far repo.Store) {
		t.Helper()
		p.ready(t, segment(number).Name(), content(segment(number)))
		s := join(t, &wal.ArchivesOptions{Durable: 1}, memberOf("near", near), memberOf("far", far)) // a process of its own
		_, err := s.PushAsked(t.Context(), p.path(segment(number).Name()), nil)
		require.NoError(t, err)
		p.done(t, segment(number).Name())
	}
	asked(1, far)
	for n := uint64(2); n < 9; n++ {
		asked(n, repotest.Faulty(far, repotest.Fault{}))
		require.True(t, lacks(t, far, n))
	}
	asked(9, repotest.Faulty(far, repotest.Fault{Op: repotest.OpCreate, Key: "wal/*/*/*/*5"}))
	require.True(t, lacks(t, far, 5))
	asked(10, far)
	for n := uint64(1); n < 9; n++ {
		requireWhole(t, far, n)
	}
}

// A segment of another timeline that pg_wal has may have come from an archive, with zeros at its end.
func TestCatchUpLeavesOtherTimelines(t *testing.T) {
	store := heldSegments(t, 1, 2)
	p := newPgwal(t)
	for _, s := range []wal.Segment{segment(2), segment(3)} {
		p.ready(t, s.Name(), content(s))
		p.done(t, s.Name())
	}
	next := segment(4).On(2)
	p.ready(t, next.Name(), content(next))
	s := join(t, nil, memberOf("", store))
	_, err := s.PushAsked(t.Context(), p.path(next.Name()), nil)
	require.NoError(t, err)
	require.True(t, lacks(t, store, 2))
	require.True(t, lacks(t, store, 3))
}

func TestNewArchivesRefusesPolicies(t *testing.T) {
	for _, durable := range []int{-1, 2} {
		_, err := wal.NewArchives([]wal.Member{memberOf("", repotest.Mem(nil))}, &wal.ArchivesOptions{Durable: durable})
		require.Error(t, err)
	}
	s := join(t, nil, memberOf("", heldSegments(t, 1, 2)))
	require.Error(t, s.Push(t.Context(), filepath.Join(t.TempDir(), segment(1).Name())))
}
