package wal_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// opened is a member that is open.
func opened(name string, a *wal.Archive) wal.Member {
	return wal.Member{Name: name, Open: func(context.Context) (*wal.Archive, error) { return a, nil }}
}

// recent is a memory store whose objects are of this time.
func recent() repo.Store { return repotest.Mem(&repotest.MemOptions{Now: time.Now}) }

func TestHeal(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			near, far, empty := recent(), recent(), recent()
			a, b, c := openArchive(t, near, options(t, kind)), openArchive(t, far, options(t, kind)), openArchive(t, empty, options(t, kind))
			for n := uint64(1); n < 10; n++ {
				if n != 7 {
					require.NoError(t, push(t, a, segment(n).Name(), content(segment(n))))
				}
				if n == 3 || n == 7 {
					require.NoError(t, push(t, b, segment(n).Name(), content(segment(n))))
				}
			}
			require.NoError(t, push(t, a, "00000002.history", history))
			s := join(t, nil, opened("near", a), opened("far", b), opened("empty", c))
			healed, err := s.Heal(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, []wal.Healed{
				{Name: "near", Owed: 1, Brought: 1},
				{Name: "far", Owed: 6, Brought: 6}, // 4, 5, 6, 8, 9 and a history; not 1 and 2, from before its first
				{Name: "empty", Owed: 10, Brought: 10},
			}, healed)
			requireHeld(t, b, "00000002.history", history)
			for n := uint64(1); n < 10; n++ {
				requireHeld(t, a, segment(n).Name(), content(segment(n)))
				requireHeld(t, c, segment(n).Name(), content(segment(n)))
				has, err := b.Has(t.Context(), parseName(t, segment(n).Name()))
				require.NoError(t, err)
				require.Equal(t, n > 2, has)
			}
			healed, err = s.Heal(t.Context(), nil)
			require.NoError(t, err)
			for _, h := range healed {
				require.Zero(t, h.Owed)
			}
		})
	}
}

// onTimeline returns a segment of a timeline.
func onTimeline(t wal.Timeline, number uint64) wal.Segment { return segment(number).On(t) }

// An archive was out of reach while the cluster was promoted, and has got the newest segment since: what comes before
// that on its timeline comes after what the archive has of the earlier one.
func TestHealBringsWhatIsBehindAPromotion(t *testing.T) {
	for _, c := range []struct {
		name   string
		holds  []wal.Segment
		owed   []uint64 // of 6 to 10 on timeline 2
		tooOld int      // where the other was given these long ago
	}{
		{name: "both timelines", holds: []wal.Segment{onTimeline(1, 4), onTimeline(1, 5), onTimeline(2, 10)}, owed: []uint64{6, 7, 8, 9}, tooOld: 4},
		{name: "a hole", holds: []wal.Segment{onTimeline(1, 5), onTimeline(2, 7), onTimeline(2, 9)}, owed: []uint64{6, 8, 10}, tooOld: 3},
		{name: "the earlier one only", holds: []wal.Segment{onTimeline(1, 5)}, owed: []uint64{6, 7, 8, 9, 10}, tooOld: 5},
		{name: "the later one only", holds: []wal.Segment{onTimeline(2, 8)}, owed: []uint64{9, 10}, tooOld: 2},
		{name: "the earlier one further on", holds: []wal.Segment{onTimeline(1, 20), onTimeline(2, 8)}, owed: []uint64{9, 10}, tooOld: 2},
		{name: "the earlier one further on, only", holds: []wal.Segment{onTimeline(1, 20)}, owed: []uint64{6, 7, 8, 9, 10}},
		{name: "a later one", holds: []wal.Segment{onTimeline(2, 8), onTimeline(3, 5)}, owed: []uint64{9, 10}, tooOld: 2},
	} {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, old), func(t *testing.T) {
				store := recent()
				if old {
					store = repotest.Mem(nil) // of long ago
				}
				a, b := openArchive(t, store, nil), openArchive(t, recent(), nil)
				fork := wal.Fork{Timeline: 1, At: segment(6).Start() + 4096, Reason: "no recovery target specified"}
				for _, x := range []*wal.Archive{a, b} {
					for _, s := range c.holds {
						require.NoError(t, push(t, x, s.Name(), content(s)))
					}
					require.NoError(t, push(t, x, "00000002.history", waltest.History(fork)))
				}
				for n := uint64(6); n <= 10; n++ {
					require.NoError(t, push(t, a, onTimeline(2, n).Name(), content(onTimeline(2, n))))
				}
				healed, err := join(t, nil, opened("a", a), opened("b", b)).Heal(t.Context(), nil)
				require.NoError(t, err)
				if old {
					require.Equal(t, wal.Healed{Name: "b", TooOld: c.tooOld}, healed[1])
					return
				}
				require.Equal(t, wal.Healed{Name: "b", Owed: len(c.owed), Brought: len(c.owed)}, healed[1])
				for _, n := range c.owed {
					requireHeld(t, b, onTimeline(2, n).Name(), content(onTimeline(2, n)))
				}
			})
		}
	}
}

// What is older than MaxAge is owed to nobody, by the clock of its store.
func TestHealLeavesWhatIsOld(t *testing.T) {
	a, b := openArchive(t, heldSegments(t, 1, 5), nil), openArchive(t, recent(), nil) // of long ago
	s := join(t, nil, opened("a", a), opened("b", b))
	healed, err := s.Heal(t.Context(), nil)
	require.NoError(t, err)
	require.Zero(t, healed[1].Owed)
	healed, err = s.Heal(t.Context(), &wal.HealOptions{MaxAge: 100 * 365 * 24 * time.Hour})
	require.NoError(t, err)
	require.Equal(t, 4, healed[1].Brought)
}

// TestHealTellsOfOldHoles: that nothing is owed does not mean that nothing lacks.
func TestHealTellsOfOldHoles(t *testing.T) {
	const long = 100 * 365 * 24 * time.Hour
	old := openArchive(t, heldSegments(t, 1, 9), nil) // from 1 on
	next := segment(9).On(2)
	require.NoError(t, push(t, old, next.Name(), content(next)))
	for _, c := range []struct {
		name   string
		holds  []uint64
		tooOld int
	}{
		{name: "nothing"},
		{name: "all of the first timeline", holds: []uint64{1, 2, 3, 4, 5, 6, 7, 8}, tooOld: 1}, // 9, on the second
		{name: "the newest, as retention leaves them", holds: []uint64{6, 7, 8}, tooOld: 1},
		{name: "a hole", holds: []uint64{2, 5, 6, 8}, tooOld: 4}, // 3, 4, 7 and 9
		{name: "an end", holds: []uint64{4, 5}, tooOld: 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			lacking, third := openArchive(t, recent(), nil), openArchive(t, recent(), nil)
			for _, n := range c.holds {
				require.NoError(t, push(t, lacking, segment(n).Name(), content(segment(n))))
			}
			s := join(t, nil, opened("old", old), opened("lacking", lacking))
			healed, err := s.Heal(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, []wal.Healed{{Name: "old"}, {Name: "lacking", TooOld: c.tooOld}}, healed)

			// What yet another was given lately is owed.
			require.NoError(t, push(t, third, segment(7).Name(), content(segment(7))))
			s = join(t, nil, opened("old", old), opened("lacking", lacking), opened("third", third))
			healed, err = s.Heal(t.Context(), nil)
			require.NoError(t, err)
			held, err := lacking.Has(t.Context(), parseName(t, segment(7).Name()))
			require.NoError(t, err)
			require.True(t, held)
			require.Equal(t, max(0, c.tooOld-healed[1].Brought), healed[1].TooOld)

			healed, err = s.Heal(t.Context(), &wal.HealOptions{MaxAge: long})
			require.NoError(t, err)
			for _, h := range healed {
				require.Zero(t, h.TooOld)
				require.Equal(t, h.Owed, h.Brought)
			}
		})
	}
}

// A host without an identity cannot read what is encrypted, and takes from pg_wal what is just that.
func TestHealWithoutAnIdentity(t *testing.T) {
	a := openArchive(t, recent(), &repo.Options{Cipher: cipher(t, "")})
	b := openArchive(t, recent(), &repo.Options{Cipher: cipher(t, "")})
	p := newPgwal(t)
	for n := uint64(1); n < 5; n++ {
		require.NoError(t, push(t, a, segment(n).Name(), content(segment(n))))
		p.ready(t, segment(n).Name(), content(segment(n)))
	}
	s := join(t, nil, opened("a", a), opened("b", b))
	healed, err := s.Heal(t.Context(), nil)
	require.Error(t, err)
	require.Zero(t, healed[1].Brought)
	healed, err = s.Heal(t.Context(), &wal.HealOptions{PGData: p.pgdata})
	require.NoError(t, err)
	require.Equal(t, 4, healed[1].Brought)

	require.NoError(t, push(t, a, segment(5).Name(), content(segment(5))))
	recycled := content(segment(5))
	recycled[6000]++
	p.ready(t, segment(5).Name(), recycled)
	_, err = s.Heal(t.Context(), &wal.HealOptions{PGData: p.pgdata})
	require.Error(t, err)
	has, err := b.Has(t.Context(), parseName(t, segment(5).Name()))
	require.NoError(t, err)
	require.False(t, has)
}

// What is taken from pg_wal has to be to the byte what the other archive holds, also where it changes after it was
// compared, as when it is recycled; then it is fetched.
func TestHealWhilePgWalChanges(t *testing.T) {
	near, far := recent(), heldSegments(t, 1, 2)
	require.NoError(t, push(t, openArchive(t, near, nil), segment(2).Name(), content(segment(2))))
	p := newPgwal(t)
	p.ready(t, segment(2).Name(), content(segment(2)))
	now, compared, changed := time.Now(), false, false
	var mu sync.Mutex
	donor := repo.Observe(near, func(op repo.Op) {
		mu.Lock()
		defer mu.Unlock()
		if op.Name == "open" && strings.HasPrefix(op.Key, "wal/") && !compared {
			now, compared = now.Add(2*time.Minute), true // so that the other one is asked whom it belongs to
		}
	})
	lacking := repo.Observe(far, func(op repo.Op) {
		mu.Lock()
		defer mu.Unlock()
		if op.Name == "open" && strings.HasPrefix(op.Key, "systems/") && compared && !changed {
			changed = true
			other := content(segment(2))
			other[6000]++
			place(t, filepath.Dir(p.path("x")), segment(2).Name(), other)
		}
	})
	r, err := repo.Open(t.Context(), lacking, &repo.Options{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	require.NoError(t, err)
	s := join(t, nil, memberOf("near", donor), opened("far", newArchive(t, r)))
	healed, err := s.Heal(t.Context(), &wal.HealOptions{PGData: p.pgdata})
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, 1, healed[1].Brought)
	requireWhole(t, far, 2)
}

// TestHealAtEveryOutage fails each single call on the store of either. A second run brings what is missing.
func TestHealAtEveryOutage(t *testing.T) {
	for _, donor := range []bool{true, false} {
		for _, effect := range []repotest.Effect{repotest.Fail(nil), repotest.FailAfter(nil), repotest.Cut(100)} {
			for n := 1; ; n++ {
				near, far := recent(), recent()
				a, b := openArchive(t, near, nil), openArchive(t, far, nil)
				for i := uint64(1); i < 4; i++ {
					require.NoError(t, push(t, a, segment(i).Name(), content(segment(i))))
				}
				require.NoError(t, push(t, b, segment(1).Name(), content(segment(1))))
				one, other := memberOf("near", near), memberOf("far", far)
				var faulty *repotest.FaultStore
				if donor {
					faulty = repotest.Faulty(near, repotest.Fault{Nth: n, Do: effect})
					one = memberOf("near", faulty)
				} else {
					faulty = repotest.Faulty(far, repotest.Fault{Nth: n, Do: effect})
					other = memberOf("far", faulty)
				}
				s := join(t, nil, one, other)
				if healed, err := s.Heal(t.Context(), &wal.HealOptions{Jobs: 1}); err == nil {
					require.Equal(t, healed[1].Owed, healed[1].Brought)
				}
				if faulty.Struck() == 0 {
					require.Greater(t, n, 5)
					break
				}
				_, err := s.Heal(t.Context(), nil)
				require.NoError(t, err)
				for i := uint64(1); i < 4; i++ {
					requireWhole(t, far, i)
				}
			}
		}
	}
}

// An archive that hangs, and does not even end with the context, is left behind, whatever it is that it hangs at.
func TestHealLeavesBehindWhatHangs(t *testing.T) {
	for name, hang := range map[string]func(repo.Store, chan struct{}) repo.Store{
		"asked": func(s repo.Store, release chan struct{}) repo.Store { return &hangingStore{s, release} },
		"brought": func(s repo.Store, release chan struct{}) repo.Store {
			return &hangingCreate{s, segment(2).Name(), release}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				a, b := recent(), recent()
				for n := uint64(1); n < 4; n++ {
					require.NoError(t, push(t, openArchive(t, a, nil), segment(n).Name(), content(segment(n))))
				}
				require.NoError(t, push(t, openArchive(t, b, nil), segment(1).Name(), content(segment(1))))
				s := join(t, nil, memberOf("works", a), memberOf("hangs", hang(b, release)))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				begun := time.Now()
				healed, err := s.Heal(ctx, nil)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 11*time.Second, time.Since(begun), "and a moment to end")
				require.Equal(t, "hangs", healed[1].Name)
				require.ErrorIs(t, healed[1].Err, context.DeadlineExceeded)
				require.NoError(t, healed[0].Err, "it lacks nothing")
				close(release)
			})
		})
	}
}

func TestHealOfTwoClusters(t *testing.T) {
	other := openArchive(t, recent(), nil)
	require.NoError(t, other.Claim(t.Context(), "me", wal.System{ID: 4711, SegmentSize: wal.MinSegmentSize}))
	a := openArchive(t, heldSegments(t, 1, 5), nil)
	healed, err := join(t, nil, opened("a", a), opened("b", other)).Heal(t.Context(), nil)
	var foreign *wal.ForeignError
	require.ErrorAs(t, err, &foreign)
	require.Zero(t, healed[1].Brought)
}

// One file that cannot be brought, or one donor's copy of it, holds up no other: each run would fail there again.
func TestHealGoesOn(t *testing.T) {
	type spoil func(*testing.T, repo.Store) repo.Store // nil is to leave a donor sound
	opening := func(do repotest.Effect) spoil {
		return func(_ *testing.T, s repo.Store) repo.Store {
			return repotest.Faulty(s, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/" + segment(2).Name(), Do: do})
		}
	}
	damaged, unreadable, gone := opening(repotest.Flip(3000)), opening(repotest.Fail(nil)), opening(repotest.Fail(fs.ErrNotExist))
	other := waltest.Segment(segment(2), 4711, 18) // of another cluster, and pg_wal has just that
	foreign := func(t *testing.T, s repo.Store) repo.Store {
		r, err := repo.Open(t.Context(), s, nil)
		require.NoError(t, err)
		key := objectOf(t, s, segment(2).Name())
		require.NoError(t, s.Delete(t.Context(), key))
		d := digest(other)
		_, err = r.Put(t.Context(), key, &repo.PutOptions{Label: func() ([]byte, error) { return d[:], nil }}, func(w io.Writer) error {
			_, err := w.Write(other)
			return err
		})
		require.NoError(t, err)
		return s
	}
	p := newPgwal(t)
	p.ready(t, segment(2).Name(), other)
	for _, c := range []struct {
		name   string
		donors []spoil
		owed   int
		holds  bool // segment 2 in the end
	}{
		{"one damaged", []spoil{damaged}, 3, false},
		{"one unreadable", []spoil{unreadable}, 3, false},
		{"one gone", []spoil{gone}, 2, false},
		{"one foreign", []spoil{foreign}, 3, false},
		{"damaged, sound", []spoil{damaged, nil}, 3, true},
		{"foreign, sound", []spoil{foreign, nil}, 3, true},
		{"gone, sound", []spoil{gone, nil}, 3, true},
		{"gone, damaged", []spoil{gone, damaged}, 3, false},
		{"gone, gone", []spoil{gone, gone}, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var members []wal.Member
			for i, spoil := range c.donors {
				s := recent()
				a := openArchive(t, s, nil)
				for n := uint64(1); n < 5; n++ {
					require.NoError(t, push(t, a, segment(n).Name(), content(segment(n))))
				}
				if spoil != nil {
					s = spoil(t, s)
				}
				members = append(members, memberOf(fmt.Sprint("donor ", i), s))
			}
			store := recent()
			require.NoError(t, push(t, openArchive(t, store, nil), segment(1).Name(), content(segment(1))))
			s := join(t, nil, append(members, memberOf("lacks", store))...)
			for range 2 {
				healed, err := s.Heal(t.Context(), &wal.HealOptions{PGData: p.pgdata})
				one := healed[len(healed)-1]
				require.Equal(t, c.owed, one.Owed)
				require.Equal(t, c.owed > one.Brought, err != nil, "%v", err)
				requireWhole(t, store, 3)
				requireWhole(t, store, 4)
				require.Equal(t, c.holds, !lacks(t, store, 2))
				c.owed -= one.Brought
			}
			if c.holds {
				requireWhole(t, store, 2)
			}
		})
	}
}

// objectOf is the key of what a store holds under a name.
func objectOf(t testing.TB, s repo.Store, name string) string {
	t.Helper()
	for info, err := range s.List(t.Context(), "wal/") {
		require.NoError(t, err)
		if strings.HasSuffix(info.Key, name) {
			return info.Key
		}
	}
	require.Fail(t, "there is none", name)
	return ""
}
