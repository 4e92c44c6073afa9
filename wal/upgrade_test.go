package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// upgraded is a store whose repository has belonged to two clusters, each of which has archived the first five segments
// and a second timeline.
type upgraded struct {
	store    repo.Store
	old, new upgradedSystem
}

type upgradedSystem struct {
	wal.System
	pgdata string // with a pg_control
}

// archive is a new archive, as another process would open it.
func (u *upgraded) archive(t testing.TB, systemID uint64) *wal.Archive {
	t.Helper()
	r, err := repo.Open(t.Context(), u.store, nil)
	require.NoError(t, err)
	a, err := wal.NewArchive(r, &wal.Options{SystemID: systemID})
	require.NoError(t, err)
	return a
}

func (s upgradedSystem) segment(n uint64) wal.Segment {
	return wal.Segment{Timeline: 1, Number: n, Size: s.SegmentSize}
}

func (s upgradedSystem) content(n uint64) []byte { return waltest.Segment(s.segment(n), s.ID, 17) }

// history differs in what only a person reads.
func (s upgradedSystem) history() []byte {
	return append(waltest.History(wal.Fork{Timeline: 1, At: 0x300060}), fmt.Sprintf("# %d\n", s.ID)...)
}

// dst is where a restore_command of its server is to put a file.
func (s upgradedSystem) dst() string { return filepath.Join(s.pgdata, "pg_wal", "RECOVERYXLOG") }

// withControl makes data directories of two clusters.
func withControl(t testing.TB) (systems []upgradedSystem) {
	t.Helper()
	controls := seeds(t, "control", "pg1[78]*")
	require.Len(t, controls, 2)
	for _, b := range controls {
		pgdata := t.TempDir()
		place(t, filepath.Join(pgdata, "global"), "pg_control", b)
		place(t, filepath.Join(pgdata, "pg_wal", "archive_status"), "x", nil)
		c, err := pgfile.ParseControl(b)
		require.NoError(t, err)
		systems = append(systems, upgradedSystem{wal.System{ID: c.SystemID, SegmentSize: c.WALSegmentSize}, pgdata})
	}
	require.NotEqual(t, systems[0].ID, systems[1].ID)
	return systems
}

func newUpgraded(t testing.TB) *upgraded {
	t.Helper()
	systems := withControl(t)
	u := &upgraded{store: repotest.Mem(nil), old: systems[0], new: systems[1]}
	a := openArchive(t, u.store, nil)
	for i, s := range systems {
		if i > 0 {
			made, err := a.Upgrade(t.Context(), "it", s.System, u.old.ID)
			require.NoError(t, err)
			require.True(t, made)
		}
		bound := u.archive(t, s.ID)
		for n := range uint64(5) {
			require.NoError(t, push(t, bound, segment(n+1).Name(), s.content(n+1)))
		}
		require.NoError(t, push(t, bound, "00000002.history", s.history()))
	}
	return u
}

func TestUpgrade(t *testing.T) {
	store := repotest.Mem(nil)
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	old, upgraded := cluster, wal.System{ID: 2, SegmentSize: 4 << 20}
	serving, err := reopenArchive(t, initialized(t, store), &repo.Options{Now: func() time.Time { return now }})
	require.NoError(t, err)
	pushOld := func(a *wal.Archive, n uint64) error { return push(t, a, segment(n).Name(), content(segment(n))) }
	pushNew := func(a *wal.Archive, n uint64) error {
		s := wal.Segment{Timeline: 1, Number: n, Size: upgraded.SegmentSize}
		return push(t, a, s.Name(), waltest.Segment(s, upgraded.ID, 18))
	}
	require.NoError(t, pushOld(serving, 1))
	require.Error(t, pushNew(serving, 1), "nobody has consented")

	a := openArchive(t, store, nil)
	var foreign *wal.ForeignError
	for _, from := range []uint64{0, 3, upgraded.ID} { // whoever does not know what he leaves
		made, err := a.Upgrade(t.Context(), "it", upgraded, from)
		require.ErrorAs(t, err, &foreign)
		require.Equal(t, &wal.ForeignError{Name: "it", Got: upgraded.ID, Want: old.ID}, foreign)
		require.False(t, made)
	}
	_, err = a.Upgrade(t.Context(), "it", wal.System{ID: 2, SegmentSize: 12345}, old.ID)
	require.Error(t, err)
	require.Len(t, objects(t, store, "systems/"), 1)

	for i := range 3 { // applied again, it changes nothing
		made, err := a.Upgrade(t.Context(), "it", upgraded, old.ID)
		require.NoError(t, err)
		require.Equal(t, i == 0, made)
		a = openArchive(t, store, nil)
	}
	require.Equal(t, []string{"systems/1", "systems/2"}, objects(t, store, "systems/"))
	all, err := a.Systems(t.Context())
	require.NoError(t, err)
	require.Equal(t, []wal.System{old, upgraded}, all)
	current, err := a.System(t.Context())
	require.NoError(t, err)
	require.Equal(t, upgraded, current)

	require.ErrorAs(t, pushOld(a, 2), &foreign)
	require.Equal(t, &wal.ForeignError{Name: segment(2).Name(), Got: old.ID, Want: upgraded.ID, Earlier: true}, foreign)
	require.ErrorContains(t, foreign, "upgraded")
	require.NoError(t, pushNew(a, 1))

	// A process that goes on since before lets the new cluster in at once, and the old one out within a minute.
	now = now.Add(2 * time.Minute)
	require.ErrorAs(t, pushOld(serving, 2), &foreign)
	require.True(t, foreign.Earlier)
	require.NoError(t, pushNew(serving, 2))
}

// initialized makes a store a repository.
func initialized(t testing.TB, s repo.Store) repo.Store {
	t.Helper()
	_, err := repo.Init(t.Context(), s, nil)
	require.NoError(t, err)
	return s
}

func TestUpgradedProcessLetsTheNewClusterIn(t *testing.T) {
	store := repotest.Mem(nil)
	serving := openArchive(t, store, nil)
	require.NoError(t, push(t, serving, segment(1).Name(), content(segment(1))))
	_, err := openArchive(t, store, nil).Upgrade(t.Context(), "it", wal.System{ID: 2, SegmentSize: wal.MinSegmentSize}, systemID)
	require.NoError(t, err)
	require.NoError(t, push(t, serving, segment(1).Name(), waltest.Segment(segment(1), 2, 18)))
}

func TestUpgradeOfNobody(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	_, err := a.Systems(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
	made, err := a.Upgrade(t.Context(), "it", cluster, 1)
	require.NoError(t, err)
	require.False(t, made)
	require.NoError(t, a.Claim(t.Context(), "it", cluster))
}

// TestUpgradeBack: pg_upgrade has left the old cluster as it was, and it is that one which goes on.
func TestUpgradeBack(t *testing.T) {
	u := newUpgraded(t)
	a := u.archive(t, 0)
	bigger := u.old.System
	bigger.SegmentSize *= 2
	_, err := a.Upgrade(t.Context(), "it", bigger, u.new.ID)
	require.ErrorContains(t, err, "segments of")
	made, err := a.Upgrade(t.Context(), "it", u.old.System, u.new.ID)
	require.NoError(t, err)
	require.True(t, made)
	all, err := a.Systems(t.Context())
	require.NoError(t, err)
	require.Equal(t, []wal.System{u.new.System, u.old.System}, all, "each once")
	require.NoError(t, push(t, u.archive(t, 0), segment(6).Name(), u.old.content(6)))
	var foreign *wal.ForeignError
	require.ErrorAs(t, push(t, u.archive(t, 0), segment(6).Name(), u.new.content(6)), &foreign)
	require.True(t, foreign.Earlier)
}

// TestRacingUpgrades: of those that all leave the same cluster one is taken, and those that go to the same are one.
func TestRacingUpgrades(t *testing.T) {
	for range 4 {
		store := repotest.Mem(nil)
		require.NoError(t, openArchive(t, store, nil).Claim(t.Context(), "it", cluster))
		const racers = 8
		var made [racers]bool
		var errs [racers]error
		var wg sync.WaitGroup
		for i := range racers {
			a, err := reopenArchive(t, store, nil)
			require.NoError(t, err)
			wg.Go(func() {
				made[i], errs[i] = a.Upgrade(t.Context(), "it", wal.System{ID: uint64(i/2 + 1), SegmentSize: wal.MinSegmentSize}, systemID)
			})
		}
		wg.Wait()
		require.Len(t, objects(t, store, "systems/"), 2)
		s, err := openArchive(t, store, nil).System(t.Context())
		require.NoError(t, err)
		makers := 0
		for i, err := range errs {
			if uint64(i/2+1) == s.ID {
				require.NoError(t, err)
			} else {
				var foreign *wal.ForeignError
				require.ErrorAs(t, err, &foreign)
				require.Equal(t, &wal.ForeignError{Name: "it", Got: uint64(i/2 + 1), Want: s.ID}, foreign)
			}
			if made[i] {
				makers++
			}
		}
		require.Equal(t, 1, makers)
	}
}

// TestUpgradeInterrupted: whatever the store fails at, the repository belongs to the one or to the other.
func TestUpgradeInterrupted(t *testing.T) {
	upgraded := wal.System{ID: 2, SegmentSize: wal.MinSegmentSize}
	prepare := func() repo.Store {
		store := repotest.Mem(nil)
		require.NoError(t, openArchive(t, store, nil).Claim(t.Context(), "it", cluster))
		return store
	}
	calls := 0
	for n := 1; ; n++ {
		store := prepare()
		faulty := repotest.Faulty(store)
		_, err := reopenArchive(t, faulty, nil)
		require.NoError(t, err)
		opened := len(faulty.Calls())
		faulty = repotest.Faulty(store, repotest.Fault{Nth: opened + n})
		a, err := reopenArchive(t, faulty, nil)
		require.NoError(t, err)
		made, err := a.Upgrade(t.Context(), "it", upgraded, systemID)
		if len(faulty.Calls()) < opened+n {
			require.NoError(t, err)
			break
		}
		calls++
		requireNoAnswer(t, err)
		s, err := openArchive(t, store, nil).System(t.Context())
		require.NoError(t, err)
		require.Contains(t, []wal.System{cluster, upgraded}, s)
		if made {
			require.Equal(t, upgraded, s)
		}
		_, err = openArchive(t, store, nil).Upgrade(t.Context(), "it", upgraded, systemID)
		require.NoError(t, err)
	}
	require.Greater(t, calls, 3)
}

// TestLostSystems: of what has lost the first record nobody becomes the owner.
func TestLostSystems(t *testing.T) {
	u := newUpgraded(t)
	for _, key := range objects(t, u.store, "") {
		if strings.HasPrefix(key, "wal/") {
			require.NoError(t, u.store.Delete(t.Context(), key))
		}
	}
	require.NoError(t, u.store.Delete(t.Context(), "systems/1"))
	var corrupt *repo.CorruptError
	require.ErrorAs(t, u.archive(t, 0).Claim(t.Context(), "it", u.new.System), &corrupt)
	require.Equal(t, "systems/1", corrupt.Key)
}

// TestReadEarlierSystems: each cluster's WAL stays what it was, though the names are the same.
func TestReadEarlierSystems(t *testing.T) {
	u := newUpgraded(t)
	for _, s := range []upgradedSystem{u.old, u.new} {
		a := u.archive(t, s.ID)
		for n := range uint64(5) {
			require.True(t, bytes.Equal(s.content(n+1), read(t, a, segment(n+1).Name())))
			ix, err := a.Index(t.Context(), s.segment(n+1))
			require.NoError(t, err)
			require.Equal(t, s.segment(n+1), ix.Segment)
		}
		require.Equal(t, s.history(), read(t, a, "00000002.history"))
		c, err := a.Coverage(t.Context())
		require.NoError(t, err)
		require.Equal(t, s.System, c.System)
		require.Equal(t, 5, c.Timelines[0].Segments)
		require.NoError(t, a.Times(t.Context(), &c))
		require.ErrorIs(t, a.Read(t.Context(), segment(6).Name(), &bytes.Buffer{}), fs.ErrNotExist)
	}
	require.True(t, bytes.Equal(u.new.content(1), read(t, u.archive(t, 0), segment(1).Name())), "the default")
	for _, c := range []struct {
		name string
		b    []byte
	}{{segment(6).Name(), u.old.content(6)}, {"00000003.history", u.old.history()}} {
		var foreign *wal.ForeignError
		require.ErrorAs(t, push(t, u.archive(t, u.old.ID), c.name, c.b), &foreign)
		require.Equal(t, &wal.ForeignError{Name: c.name, Got: u.old.ID, Want: u.new.ID, Earlier: true}, foreign)
	}
	var foreign *wal.ForeignError
	_, err := u.archive(t, 5).System(t.Context())
	require.ErrorAs(t, err, &foreign)
}

// fetchers fetch in each way there is: the archive's, ahead, and by way of a program that serves.
func (u *upgraded) fetchers(t *testing.T) map[string]func(systemID uint64, name, dst string) error {
	t.Helper()
	ahead := func(a *wal.Archive, batch bool) *wal.Prefetcher {
		return prefetch(t, a, &wal.PrefetchOptions{Dir: t.TempDir(), Segments: 3, Batch: batch})
	}
	kept := map[uint64]*wal.Prefetcher{}
	for _, id := range []uint64{0, u.old.ID, u.new.ID} {
		kept[id] = ahead(u.archive(t, id), false)
	}
	one := ahead(u.archive(t, 0), false)
	plain, fetching := serve(t, u.archive(t, 0), nil), serve(t, u.archive(t, 0), &wal.ServeOptions{Prefetch: one})
	by := func(s served) func(uint64, string, string) error {
		return func(id uint64, name, dst string) error {
			return wal.Client{Socket: s.Socket, SystemID: id}.Fetch(t.Context(), name, dst)
		}
	}
	return map[string]func(uint64, string, string) error{
		"archive": func(id uint64, name, dst string) error { return u.archive(t, id).Fetch(t.Context(), name, dst) },
		"ahead":   func(id uint64, name, dst string) error { return kept[id].Fetch(t.Context(), name, dst) },
		"ahead, a process each": func(id uint64, name, dst string) error {
			return ahead(u.archive(t, id), true).Fetch(t.Context(), name, dst)
		},
		"served": by(plain), "served, ahead": by(fetching),
	}
}

// TestFetchAfterUpgrade: a server is brought its own cluster's WAL, and where nobody can tell which that is, none.
func TestFetchAfterUpgrade(t *testing.T) {
	u := newUpgraded(t)
	for how, fetch := range u.fetchers(t) {
		t.Run(how, func(t *testing.T) {
			elsewhere := filepath.Join(t.TempDir(), "x")
			for n := range uint64(5) {
				for _, s := range []upgradedSystem{u.old, u.new} {
					// By the data directory it goes to, and by what the command says.
					for dst, told := range map[string]uint64{s.dst(): 0, elsewhere: s.ID} {
						require.NoError(t, fetch(told, segment(n+1).Name(), dst))
						require.True(t, bytes.Equal(s.content(n+1), readPath(t, dst)), "segment %d of %d", n+1, s.ID)
						require.NoError(t, fetch(told, "00000002.history", dst))
						require.Equal(t, s.history(), readPath(t, dst))
					}
				}
			}
			require.ErrorIs(t, fetch(0, segment(6).Name(), u.old.dst()), fs.ErrNotExist)

			for _, name := range []string{segment(1).Name(), "00000002.history"} {
				err := fetch(0, name, filepath.Join(t.TempDir(), "x"))
				requireNoAnswer(t, err)
				require.ErrorContains(t, err, "say of which")
				var foreign *wal.ForeignError
				err = fetch(u.new.ID, name, u.old.dst())
				requireNoAnswer(t, err)
				require.ErrorAs(t, err, &foreign, "what the command says is not so")
				require.Equal(t, &wal.ForeignError{Name: "the destination of " + name, Got: u.old.ID, Want: u.new.ID}, foreign)
			}
		})
	}
	var ambiguous *wal.AmbiguousError
	require.ErrorAs(t, u.archive(t, 0).Fetch(t.Context(), segment(1).Name(), filepath.Join(t.TempDir(), "x")), &ambiguous)
	require.Equal(t, &wal.AmbiguousError{Name: segment(1).Name(), Systems: []uint64{u.old.ID, u.new.ID}}, ambiguous)
}

// TestFetchIntoAnotherCluster: a server whose cluster the repository never belonged to is brought nothing.
func TestFetchIntoAnotherCluster(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	other := withControl(t)[0]
	require.ErrorIs(t, a.Fetch(t.Context(), segment(1).Name(), other.dst()), fs.ErrNotExist, "the archive holds nothing")
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	for _, n := range []uint64{1, 2} {
		var foreign *wal.ForeignError
		err := a.Fetch(t.Context(), segment(n).Name(), other.dst())
		requireNoAnswer(t, err)
		require.ErrorAs(t, err, &foreign)
		require.Equal(t, &wal.ForeignError{Name: "the destination of " + segment(n).Name(), Got: other.ID, Want: systemID}, foreign)
	}
	require.NoFileExists(t, other.dst())
	requireHeld(t, a, segment(1).Name(), content(segment(1)))
}

// TestNotesAfterUpgrade: histories do not tell whose they are.
func TestNotesAfterUpgrade(t *testing.T) {
	u := newUpgraded(t)
	var ambiguous *wal.AmbiguousError
	require.ErrorAs(t, push(t, u.archive(t, 0), "00000003.history", u.new.history()), &ambiguous)
	require.ErrorAs(t, u.archive(t, 0).Push(t.Context(), place(t, t.TempDir(), "00000003.history", u.new.history())), &ambiguous)
	s := serve(t, u.archive(t, 0), nil)
	for _, push := range []func(path string) error{
		func(path string) error { return u.archive(t, 0).Push(t.Context(), path) },
		func(path string) error { return s.Push(t.Context(), path) },
	} {
		var foreign *wal.ForeignError
		require.ErrorAs(t, push(place(t, filepath.Join(u.old.pgdata, "pg_wal"), "00000003.history", u.old.history())), &foreign)
		require.True(t, foreign.Earlier)
		require.NoError(t, push(place(t, filepath.Join(u.new.pgdata, "pg_wal"), "00000003.history", u.new.history())))
	}
	require.Equal(t, u.new.history(), read(t, u.archive(t, 0), "00000003.history"))
	require.ErrorIs(t, u.archive(t, u.old.ID).Read(t.Context(), "00000003.history", &bytes.Buffer{}), fs.ErrNotExist)
}

// TestStateAfterUpgrade: what this host remembers of the old cluster's files it does not take for the new one's, though
// names, and of histories all content, are the same.
func TestStateAfterUpgrade(t *testing.T) {
	systems := withControl(t)
	store, state := repotest.Mem(nil), t.TempDir()
	history := waltest.History(wal.Fork{Timeline: 1, At: 0x100060})
	for i, s := range systems {
		a := remembering(t, store, state)
		if i > 0 {
			_, err := a.Upgrade(t.Context(), "it", s.System, systems[0].ID)
			require.NoError(t, err)
		}
		require.NoError(t, a.Claim(t.Context(), "it", s.System))
		dir := filepath.Join(s.pgdata, "pg_wal")
		for name, b := range map[string][]byte{"00000002.history": history, segment(1).Name(): s.content(1)} {
			place(t, dir, name, b)
			place(t, filepath.Join(dir, "archive_status"), name+".ready", nil)
		}
		// Asked by the new cluster, before anything else has been, is the old one's mark.
		require.NoError(t, a.Push(t.Context(), filepath.Join(dir, "00000002.history")))
		require.Contains(t, objects(t, store, ""), wal.Key(s.System, parseName(t, "00000002.history")))
		pushed, err := a.PushReady(t.Context(), s.pgdata, nil)
		require.NoError(t, err)
		require.Len(t, pushed.Files, 2)
		require.ElementsMatch(t, []string{"00000002.history", segment(1).Name()}, marked(t, state))
		sum, err := a.Summarize(t.Context(), s.segment(1), s.segment(1), nil)
		require.NoError(t, err)
		require.NotNil(t, sum)
	}
	kept, err := filepath.Glob(filepath.Join(state, "*", "indexes", "*"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	require.Equal(t, fmt.Sprint(systems[1].ID), filepath.Base(kept[0]))
}

// TestKeptIndexAfterUpgrade: of segments with one name this host has pushed the old cluster's, and another host the new
// one's. What has changed in the new one is not what this host remembers.
func TestKeptIndexAfterUpgrade(t *testing.T) {
	store := repotest.Mem(nil)
	host := remembering(t, store, t.TempDir())
	seg, front := pages(t, "pg18")
	old := append(bytes.Clone(front), make([]byte, int(seg.Size)-len(front))...)
	require.NoError(t, push(t, host, seg.Name(), old))
	before, err := host.Summarize(t.Context(), seg, seg, nil)
	require.NoError(t, err)
	require.NotEmpty(t, before.Events)

	was, err := host.System(t.Context())
	require.NoError(t, err)
	other := openArchive(t, store, nil)
	_, err = other.Upgrade(t.Context(), "it", wal.System{ID: 2, SegmentSize: seg.Size}, was.ID)
	require.NoError(t, err)
	require.NoError(t, push(t, other, seg.Name(), waltest.Segment(seg, 2, 18)))

	_, err = host.Upgrade(t.Context(), "it", wal.System{ID: 2, SegmentSize: seg.Size}, was.ID)
	require.NoError(t, err)
	after, err := host.Summarize(t.Context(), seg, seg, nil)
	require.NoError(t, err)
	require.Empty(t, after.Events)
}

// TestGiveUpWaiting: while one asks the store, which hangs, others can still give up.
func TestGiveUpWaiting(t *testing.T) {
	store := repotest.Mem(nil)
	require.NoError(t, openArchive(t, store, nil).Claim(t.Context(), "it", cluster))
	faulty := repotest.Faulty(store, repotest.Fault{Op: repotest.OpOpen, Key: "systems/*", Do: repotest.Stall()})
	a, err := reopenArchive(t, faulty, nil)
	require.NoError(t, err)
	asking, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.System(asking)
		done <- err
	}()
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(faulty.Calls(), func(c repotest.Call) bool { return strings.HasPrefix(c.Key, "systems/") })
	}, time.Minute, time.Millisecond)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.System(gone)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, done)
	stop()
	require.ErrorIs(t, <-done, context.Canceled)
}
