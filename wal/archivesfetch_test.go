package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// memberOf is a member whose repository is opened when it is needed.
func memberOf(name string, s repo.Store) wal.Member {
	return wal.Member{Name: name, Open: func(ctx context.Context) (*wal.Archive, error) {
		r, err := repo.Open(ctx, s, nil)
		if err != nil {
			return nil, err
		}
		return wal.NewArchive(r, nil)
	}}
}

func join(t testing.TB, o *wal.ArchivesOptions, members ...wal.Member) *wal.Archives {
	t.Helper()
	s, err := wal.NewArchives(members, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// stores have segment 2, or lack it.
type stores struct{ held, lacks, empty repo.Store }

// states are what an archive may have to say of segment 2.
var states = []struct {
	name   string
	answer string // "has", "missing", or "" for none
	damage bool
	make   func(w stores) wal.Member
}{
	{name: "has it", answer: "has", make: func(w stores) wal.Member { return memberOf("", w.held) }},
	{name: "missing", answer: "missing", make: func(w stores) wal.Member { return memberOf("", w.lacks) }},
	{name: "of nobody yet", answer: "missing", make: func(w stores) wal.Member {
		return memberOf("", w.empty)
	}},
	{name: "no repository", make: func(stores) wal.Member { return memberOf("", repotest.Mem(nil)) }},
	{name: "no file of credentials", make: func(stores) wal.Member {
		return wal.Member{Open: func(context.Context) (*wal.Archive, error) { return nil, fs.ErrNotExist }}
	}},
	{name: "fails", make: func(w stores) wal.Member {
		return memberOf("", repotest.Faulty(w.held, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*"}))
	}},
	{name: "cut off", make: func(w stores) wal.Member {
		return memberOf("", repotest.Faulty(w.held, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Do: repotest.Cut(1000)}))
	}},
	{name: "damaged", damage: true, make: func(w stores) wal.Member {
		return memberOf("", repotest.Faulty(w.held, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Do: repotest.Flip(3000)}))
	}},
	{name: "stalls", make: func(w stores) wal.Member {
		return memberOf("", repotest.Faulty(w.held, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Do: repotest.Stall()}))
	}},
	{name: "stalls when opened", make: func(stores) wal.Member {
		return wal.Member{Open: func(ctx context.Context) (*wal.Archive, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
	}},
	{name: "of another cluster", make: func(w stores) wal.Member {
		return wal.Member{Open: func(ctx context.Context) (*wal.Archive, error) {
			r, err := repo.Open(ctx, w.held, nil)
			if err != nil {
				return nil, err
			}
			return wal.NewArchive(r, &wal.Options{SystemID: 1})
		}}
	}},
}

// TestArchivesTellMissingFromUnknown has three archives in every combination of states, the first of which answers.
func TestArchivesTellMissingFromUnknown(t *testing.T) {
	name := segment(2).Name()
	w := stores{held: heldSegments(t, 1, 3), lacks: heldSegments(t, 1, 2), empty: repotest.Mem(nil)}
	openArchive(t, w.empty, nil)
	for _, x := range states {
		for _, y := range states {
			for _, z := range states[:3] {
				t.Run(fmt.Sprintf("%s,%s,%s", x.name, y.name, z.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						has, missing, damage := false, true, false
						for _, s := range []struct {
							answer string
							damage bool
						}{{x.answer, x.damage}, {y.answer, y.damage}, {z.answer, z.damage}} {
							has, missing, damage = has || s.answer == "has", missing && s.answer == "missing", damage || s.damage
						}
						begun := time.Now()
						ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
						defer cancel()
						s := join(t, nil, z.make(w), x.make(w), y.make(w))
						dir := t.TempDir()
						dst := filepath.Join(dir, "RECOVERYXLOG")
						err := s.Fetch(ctx, name, dst)
						var b bytes.Buffer
						readErr := s.Read(ctx, name, &b)
						held, hasErr := s.Has(ctx, parseName(t, name))
						switch {
						case has:
							require.NoError(t, errors.Join(err, readErr, hasErr))
							require.True(t, held)
							require.True(t, bytes.Equal(content(segment(2)), readPath(t, dst)))
							require.True(t, bytes.Equal(content(segment(2)), b.Bytes()))
							require.LessOrEqual(t, time.Since(begun), 30*time.Second, "two that stall are waited for no longer than Patience each, three times")
							requireOnly(t, dir, "RECOVERYXLOG")
						case missing:
							require.ErrorIs(t, err, fs.ErrNotExist)
							require.ErrorIs(t, readErr, fs.ErrNotExist)
							require.NoError(t, hasErr)
							require.False(t, held)
							requireOnly(t, dir)
						default:
							requireNoAnswer(t, err)
							requireNoAnswer(t, readErr)
							require.Zero(t, b.Len())
							requireOnly(t, dir)
							var corrupt *repo.CorruptError
							if damage && ctx.Err() == nil {
								require.ErrorAs(t, err, &corrupt)
							}
						}
					})
				})
			}
		}
	}
}

// TestArchivesAtEveryOutage fails every single call on one store, while the other has the file, or has it not.
func TestArchivesAtEveryOutage(t *testing.T) {
	held, lacks := heldSegments(t, 1, 3), heldSegments(t, 1, 2)
	for _, name := range []string{segment(2).Name(), segment(3).Name(), "00000002.history"} {
		for _, first := range []bool{true, false} {
			for _, effect := range []repotest.Effect{repotest.Fail(nil), repotest.Fail(context.DeadlineExceeded)} {
				for n := 1; ; n++ {
					faulty := repotest.Faulty(lacks, repotest.Fault{Nth: n, Do: effect})
					members := []wal.Member{memberOf("faulty", faulty), memberOf("sound", held)}
					if !first {
						members[0], members[1] = members[1], members[0]
					}
					err := join(t, nil, members...).Read(t.Context(), name, io.Discard)
					switch {
					case name == segment(2).Name():
						require.NoError(t, err, "call %d", n)
					case faulty.Struck() > 0:
						requireNoAnswer(t, err, "%s: call %d, %v", name, n, faulty.Calls()[n-1])
					default:
						require.ErrorIs(t, err, fs.ErrNotExist)
					}
					if faulty.Struck() == 0 {
						break
					}
				}
			}
		}
	}
}

// A segment that one archive holds in part is not the end of the WAL where another holds it whole, or more of it, or a
// later one, or cannot tell.
func TestArchivesTakeTheLongestPart(t *testing.T) {
	part := func(cuts ...int) repo.Store {
		s := repotest.Mem(nil)
		withPieces(t, s, nil, cuts...)
		return s
	}
	name := segment(2).Name()
	short, long := memberOf("short", part(70_000)), memberOf("long", part(70_000, 150_000))
	for _, members := range [][]wal.Member{{short, long}, {long, short}} {
		var b bytes.Buffer
		require.NoError(t, join(t, nil, members...).Read(t.Context(), name, &b))
		require.Equal(t, digest(cutOff(150_000)), digest(b.Bytes()))
	}
	whole := memberOf("whole", heldSegments(t, 1, 3))
	var b bytes.Buffer
	require.NoError(t, join(t, nil, long, whole).Read(t.Context(), name, &b))
	require.Equal(t, digest(content(segment(2))), digest(b.Bytes()))

	later := openArchive(t, repotest.Mem(nil), nil)
	require.NoError(t, push(t, later, segment(3).Name(), content(segment(3))))
	opened := wal.Member{Open: func(context.Context) (*wal.Archive, error) { return later, nil }}
	require.ErrorIs(t, join(t, nil, long, opened).Read(t.Context(), name, io.Discard), fs.ErrNotExist, "it is a hole")

	for _, fault := range []repotest.Fault{{Op: repotest.OpOpen, Key: "wal/*/*/*/*"}, {Op: repotest.OpList}, {Op: repotest.OpOpen, Key: "pieces/*/*/*"}} {
		failing := memberOf("failing", repotest.Faulty(part(70_000, 150_000, 200_000), fault))
		requireNoAnswer(t, join(t, nil, long, failing).Read(t.Context(), name, io.Discard), "%v: it may have more", fault)
	}
}

// Where an archive gets a segment whole while all are asked, and its pieces go, what another has of it is not its end.
func TestArchivesTakeWhatBecomesWhole(t *testing.T) {
	for nth := 1; ; nth++ {
		for _, first := range []bool{true, false} {
			long, short := repotest.Mem(nil), repotest.Mem(nil)
			sound := withPieces(t, long, nil, 70_000, 900_000)
			withPieces(t, short, nil, 70_000)
			var calls atomic.Int64
			done := false
			lists := repo.Observe(long, func(repo.Op) {
				if calls.Add(1) != int64(nth) {
					return
				}
				done = true
				require.NoError(t, push(t, sound, segment(2).Name(), noisy(segment(2))))
				for _, key := range objects(t, long, "pieces/") {
					require.NoError(t, long.Delete(t.Context(), key))
				}
			})
			members := []wal.Member{memberOf("long", lists), memberOf("short", short)}
			if !first {
				slices.Reverse(members)
			}
			var b bytes.Buffer
			require.NoError(t, join(t, nil, members...).Read(t.Context(), segment(2).Name(), &b))
			require.Contains(t, [][32]byte{digest(noisy(segment(2))), digest(cutOff(900_000))}, digest(b.Bytes()), "%d", nth)
			if !done {
				require.Greater(t, nth, 5)
				return
			}
		}
	}
}

// One that hangs, and does not even end with its context, holds nobody up, and cannot spoil what another has brought.
func TestArchivesLeaveBehindWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hangs := &hangingStore{Store: heldSegments(t, 1, 3), release: release}
		s := join(t, nil, memberOf("hangs", hangs), memberOf("works", heldSegments(t, 1, 3)))
		dst := filepath.Join(t.TempDir(), "RECOVERYXLOG")
		begun := time.Now()
		require.NoError(t, s.Fetch(t.Context(), segment(1).Name(), dst))
		require.Equal(t, 6*time.Second, time.Since(begun), "Patience, and a moment to end")
		require.NoError(t, s.Fetch(t.Context(), segment(2).Name(), dst))
		require.Equal(t, 6*time.Second, time.Since(begun), "it is asked last by now")
		close(release)
		synctest.Wait()
		require.True(t, bytes.Equal(content(segment(2)), readPath(t, dst)))
	})
}

// hangingStore hangs, whatever becomes of the context.
type hangingStore struct {
	repo.Store
	release chan struct{}
}

func (s *hangingStore) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	<-s.release
	return s.Store.Open(context.WithoutCancel(ctx), key, off, n)
}

func (s *hangingStore) Create(ctx context.Context, key string) (repo.Writer, error) {
	<-s.release
	return s.Store.Create(context.WithoutCancel(ctx), key)
}

func (s *hangingStore) Stat(ctx context.Context, key string) (repo.Info, error) {
	<-s.release
	return s.Store.Stat(context.WithoutCancel(ctx), key)
}

// Archives of two clusters are told apart even where the destination does not tell which is meant.
func TestArchivesOfTwoClusters(t *testing.T) {
	other := openArchive(t, repotest.Mem(nil), nil)
	require.NoError(t, push(t, other, segment(3).Name(), waltest.Segment(segment(3), 4711, 18)))
	opened := wal.Member{Open: func(context.Context) (*wal.Archive, error) { return other, nil }}
	err := join(t, nil, memberOf("", heldSegments(t, 1, 3)), opened).Read(t.Context(), segment(3).Name(), io.Discard)
	var foreign *wal.ForeignError
	require.ErrorAs(t, err, &foreign)
	requireNoAnswer(t, err)
}

func TestNewArchivesRefuses(t *testing.T) {
	_, err := wal.NewArchives(nil, nil)
	require.Error(t, err)
	_, err = wal.NewArchives([]wal.Member{{}}, nil)
	require.Error(t, err)
	s := join(t, nil, wal.Member{Open: func(context.Context) (*wal.Archive, error) { return nil, nil }})
	requireNoAnswer(t, s.Read(t.Context(), segment(1).Name(), io.Discard))
	var name *wal.NameError
	require.ErrorAs(t, s.Fetch(t.Context(), "x", filepath.Join(t.TempDir(), "x")), &name)
	requireNoAnswer(t, join(t, nil, memberOf("", heldSegments(t, 1, 2))).Fetch(t.Context(), segment(1).Name(), filepath.Join(t.TempDir(), "gone", "x")))
}
