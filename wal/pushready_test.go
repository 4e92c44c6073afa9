package wal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// pgwal is a data directory of which only pg_wal is there.
type pgwal struct{ pgdata string }

func newPgwal(t testing.TB) pgwal {
	t.Helper()
	p := pgwal{t.TempDir()}
	require.NoError(t, os.MkdirAll(filepath.Join(p.pgdata, "pg_wal", "archive_status"), 0o755))
	return p
}

func (p pgwal) path(name string) string { return filepath.Join(p.pgdata, "pg_wal", name) }

func (p pgwal) status(name string) string {
	return filepath.Join(p.pgdata, "pg_wal", "archive_status", name)
}

// ready adds a file that is ready.
func (p pgwal) ready(t testing.TB, name string, b []byte) {
	t.Helper()
	place(t, filepath.Dir(p.path(name)), name, b)
	place(t, filepath.Dir(p.status(name)), name+".ready", nil)
}

// done says that a file was archived, as PostgreSQL does after archive_command has succeeded.
func (p pgwal) done(t testing.TB, name string) {
	t.Helper()
	require.NoError(t, os.Rename(p.status(name+".ready"), p.status(name+".done")))
}

// backlog is segments from to to-1, ready.
func backlog(t testing.TB, from, to uint64) pgwal {
	t.Helper()
	p := newPgwal(t)
	for n := from; n < to; n++ {
		p.ready(t, segment(n).Name(), content(segment(n)))
	}
	return p
}

// remembering is an archive whose host keeps state.
func remembering(t testing.TB, s repo.Store, state string) *wal.Archive {
	t.Helper()
	return openArchive(t, s, &repo.Options{StateDir: state})
}

// settled is one on which a minute passes before it looks at a file.
func settled(t testing.TB, s repo.Store, state string) *wal.Archive {
	t.Helper()
	return at(t, s, state, func() time.Time { return time.Now().Add(time.Minute) })
}

// at is one with a clock.
func at(t testing.TB, s repo.Store, state string, now func() time.Time) *wal.Archive {
	t.Helper()
	return openArchive(t, s, &repo.Options{StateDir: state, Now: now})
}

// marked returns the names that marks are there for.
func marked(t testing.TB, state string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(state, "*", "pushed", "*"))
	require.NoError(t, err)
	names := []string{}
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

func pushedNames(p *wal.Pushed) (names []string) {
	for _, f := range p.Files {
		names = append(names, f.Name)
	}
	return names
}

// segmentNames are the names of segments from to to-1.
func segmentNames(from, to uint64) []string {
	list := []string{}
	for n := from; n < to; n++ {
		list = append(list, segment(n).Name())
	}
	return list
}

func TestPushReadyInOrderOfNeed(t *testing.T) {
	p := newPgwal(t)
	history := waltest.History(wal.Fork{Timeline: 1, At: 0x100060})
	notes := segment(2).Name() + ".00000028.backup"
	p.ready(t, segment(3).On(2).Name(), content(segment(3).On(2)))
	p.ready(t, segment(2).Name()+".partial", content(segment(2)))
	p.ready(t, notes, []byte(backupNotes))
	p.ready(t, segment(2).Name(), content(segment(2)))
	p.ready(t, segment(1).Name(), content(segment(1)))
	p.ready(t, "00000003.history", history)
	p.ready(t, "00000002.history", history)
	p.ready(t, segment(7).Name(), content(segment(7)))
	p.done(t, segment(7).Name())
	place(t, filepath.Dir(p.path("x")), segment(8).Name(), content(segment(8))) // in use
	for _, junk := range []string{"x.ready", ".ready", "ready", "00000001000000000000000Z.ready", segment(9).Name(), "..ready", segment(9).Name() + ".ready.ready"} {
		place(t, filepath.Dir(p.status("x")), junk, nil)
	}
	want := []string{
		"00000002.history", "00000003.history", segment(1).Name(), segment(2).Name(), notes, segment(2).Name() + ".partial", segment(3).On(2).Name(),
	}
	for _, jobs := range []int{1, 3} {
		store := repotest.Faulty(repotest.Mem(nil))
		a := openArchive(t, store, nil)
		require.NoError(t, a.Claim(t.Context(), "me", cluster))
		got, err := a.PushReady(t.Context(), p.pgdata, &wal.ReadyOptions{Jobs: jobs})
		require.NoError(t, err)
		require.Equal(t, want, pushedNames(got))
		require.Zero(t, got.Left)
		var created []string
		for _, c := range store.Calls() {
			if c.Op == repotest.OpCreate && strings.HasPrefix(c.Key, "wal/") {
				created = append(created, filepath.Base(c.Key))
			}
		}
		if jobs == 1 {
			require.Equal(t, want, created)
		}
		require.ElementsMatch(t, want, created)
		requireHeld(t, a, segment(2).Name(), content(segment(2)))
		requireHeld(t, a, "00000002.history", history)

		// The file asked for comes first, whatever else there is.
		a = openArchive(t, repotest.Mem(nil), nil)
		require.NoError(t, a.Claim(t.Context(), "me", cluster))
		got, err = a.PushAsked(t.Context(), p.path(segment(2).Name()), &wal.ReadyOptions{Jobs: jobs})
		require.NoError(t, err)
		require.Equal(t, segment(2).Name(), got.Files[0].Name)
		require.ElementsMatch(t, want, pushedNames(got))
	}
}

func TestPushReadyIsBounded(t *testing.T) {
	p := backlog(t, 1, 101)
	a := openArchive(t, repotest.Mem(nil), nil)
	got, err := a.PushAsked(t.Context(), p.path(segment(1).Name()), nil)
	require.NoError(t, err)
	require.Equal(t, segmentNames(1, 66), pushedNames(got), "the one asked for and 64 neighbours")
	require.Equal(t, 35, got.Left)
	got, err = a.PushReady(t.Context(), p.pgdata, &wal.ReadyOptions{Files: 3, Jobs: 2})
	require.NoError(t, err)
	require.Equal(t, segmentNames(1, 4), pushedNames(got))
	require.Equal(t, 97, got.Left)
	got, err = a.PushAsked(t.Context(), place(t, t.TempDir(), segment(1).Name(), content(segment(1))), nil)
	require.NoError(t, err)
	require.Equal(t, segmentNames(1, 2), pushedNames(got), "outside of a pg_wal there are no neighbours")
	text, err := json.Marshal(got)
	require.NoError(t, err)
	require.JSONEq(t, `{"files":[{"name":"000000010000000000000001"}],"left":0}`, string(text))
}

// TestPushOfWhatIsRemembered: the store is not asked, for that content only, and by any process of the host.
func TestPushOfWhatIsRemembered(t *testing.T) {
	for _, kind := range kinds {
		state, p := t.TempDir(), backlog(t, 1, 4)
		o := &repo.Options{StateDir: state}
		if kind == "encrypted" {
			o.Cipher = cipher(t, "")
		}
		store := repotest.Faulty(repotest.Mem(nil))
		got, err := openArchive(t, store, o).PushAsked(t.Context(), p.path(segment(1).Name()), nil)
		require.NoError(t, err)
		require.Equal(t, segmentNames(1, 4), pushedNames(got))
		require.Equal(t, segmentNames(2, 4), marked(t, state), "the caller is told of the first himself")
		p.done(t, segment(1).Name())

		a := openArchive(t, store, o)
		before := len(store.Calls())
		require.NoError(t, a.Push(t.Context(), p.path(segment(2).Name())))
		p.done(t, segment(2).Name())
		got, err = a.PushAsked(t.Context(), p.path(segment(3).Name()), nil)
		require.NoError(t, err)
		require.Equal(t, []wal.PushedFile{{Name: segment(3).Name(), Remembered: true}}, got.Files)
		require.Len(t, store.Calls(), before, "the store was not asked")
		require.Empty(t, marked(t, state), "each counts once")

		require.NoError(t, a.Push(t.Context(), p.path(segment(3).Name())), "and again, compared with the archive")
		require.Greater(t, len(store.Calls()), before)
	}
}

// TestPushReadyAgain: what is remembered stays so until PostgreSQL has asked, and no longer.
func TestPushReadyAgain(t *testing.T) {
	state, p := t.TempDir(), backlog(t, 1, 6)
	store := repotest.Faulty(repotest.Mem(nil))
	a := remembering(t, store, state)
	for _, remembered := range []bool{false, true, true} {
		before := len(store.Calls())
		got, err := a.PushReady(t.Context(), p.pgdata, nil)
		require.NoError(t, err)
		require.Len(t, got.Files, 5)
		for _, f := range got.Files {
			require.Equal(t, remembered, f.Remembered)
		}
		require.Equal(t, remembered, before == len(store.Calls()))
		require.Equal(t, segmentNames(1, 6), marked(t, state))
	}
	p.done(t, segment(1).Name())
	require.NoError(t, os.Remove(p.status(segment(2).Name()+".ready")))
	place(t, filepath.Join(state, filepath.Base(glob(t, state)), "pushed"), "junk", nil)
	_, err := a.PushReady(t.Context(), p.pgdata, nil)
	require.NoError(t, err)
	require.Equal(t, segmentNames(3, 6), marked(t, state))
}

// glob returns the only entry of a directory.
func glob(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	return filepath.Join(dir, entries[0].Name())
}

// TestMarksThatSayNothing: each of these sends the push along the normal road, where the archive decides.
func TestMarksThatSayNothing(t *testing.T) {
	name := segment(2).Name()
	// altered changes a mark and makes its sum right.
	altered := func(alter func(*wal.Mark)) func(t *testing.T, path string, b []byte) {
		return func(t *testing.T, path string, b []byte) {
			var m wal.Mark
			require.NoError(t, json.Unmarshal(b, &m))
			alter(&m)
			require.NoError(t, os.WriteFile(path, wal.Sealed(m), 0o600))
		}
	}
	for what, damage := range map[string]func(t *testing.T, path string, b []byte){
		"empty": func(t *testing.T, path string, _ []byte) { require.NoError(t, os.WriteFile(path, nil, 0o600)) },
		"cut":   func(t *testing.T, path string, b []byte) { require.NoError(t, os.WriteFile(path, b[:len(b)/2], 0o600)) },
		"zeros": func(t *testing.T, path string, b []byte) {
			require.NoError(t, os.WriteFile(path, make([]byte, len(b)), 0o600))
		},
		"longer than any": func(t *testing.T, path string, b []byte) {
			require.NoError(t, os.WriteFile(path, append(b, bytes.Repeat([]byte(" "), 2000)...), 0o600))
		},
		"two of them": func(t *testing.T, path string, b []byte) {
			require.NoError(t, os.WriteFile(path, append(b, b...), 0o600))
		},
		"a directory": func(t *testing.T, path string, _ []byte) {
			require.NoError(t, errors.Join(os.Remove(path), os.Mkdir(path, 0o700)))
		},
		"another repository's": altered(func(m *wal.Mark) { m.Repository = "OTHER" }),
		"another's name":       altered(func(m *wal.Mark) { m.Name = segment(3).Name() }),
		"another content's":    altered(func(m *wal.Mark) { m.State, m.Digest = "", strings.Repeat("0", 64) }),
		"another file's":       altered(func(m *wal.Mark) { m.State, m.Digest = "1"+m.State, strings.Repeat("0", 64) }),
		"without a sum": func(t *testing.T, path string, b []byte) {
			i := bytes.Index(b, []byte(`,"sum"`))
			require.NoError(t, os.WriteFile(path, append(b[:i:i], '}'), 0o600))
		},
		"damaged": func(t *testing.T, path string, b []byte) {
			b[bytes.Index(b, []byte(`"digest":"`))+20] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			state, p := t.TempDir(), backlog(t, 1, 3)
			mem := repotest.Mem(nil)
			_, err := settled(t, mem, state).PushReady(t.Context(), p.pgdata, nil)
			require.NoError(t, err)
			path := filepath.Join(glob(t, state), "pushed", name)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			damage(t, path, b)

			lost := copyStore(t, mem, func(key string) string {
				if strings.HasSuffix(key, name) {
					return ""
				}
				return key
			})
			require.NoError(t, remembering(t, lost, state).Push(t.Context(), p.path(name)))
			requireHeld(t, remembering(t, lost, state), name, content(segment(2)))
		})
	}
}

// TestPushOfOtherContentThanRemembered ends as it does without a mark.
func TestPushOfOtherContentThanRemembered(t *testing.T) {
	state, p := t.TempDir(), backlog(t, 1, 2)
	a := remembering(t, repotest.Mem(nil), state)
	_, err := a.PushReady(t.Context(), p.pgdata, nil)
	require.NoError(t, err)
	other := content(segment(1))
	other[9999]++
	p.ready(t, segment(1).Name(), other)
	var conflict *wal.ConflictError
	require.ErrorAs(t, a.Push(t.Context(), p.path(segment(1).Name())), &conflict)
	_, err = a.PushAsked(t.Context(), p.path(segment(1).Name()), nil)
	require.ErrorAs(t, err, &conflict)
	_, err = a.PushReady(t.Context(), p.pgdata, nil)
	require.ErrorAs(t, err, &conflict)
}

// TestStateOfItsOwn: a host that uses two copies of a repository, which have one id, keeps them apart.
func TestStateOfItsOwn(t *testing.T) {
	p := backlog(t, 1, 3)
	mem := repotest.Mem(nil)
	openArchive(t, mem, nil)
	open := func(s repo.Store, state string) *wal.Archive {
		r, err := repo.Open(t.Context(), s, nil)
		require.NoError(t, err)
		a, err := wal.NewArchive(r, &wal.Options{StateDir: state})
		require.NoError(t, err)
		return a
	}
	twin := copyStore(t, mem, func(key string) string { return key })
	one, two := t.TempDir(), t.TempDir()
	_, err := open(mem, one).PushReady(t.Context(), p.pgdata, nil)
	require.NoError(t, err)
	require.NoError(t, open(twin, two).Push(t.Context(), p.path(segment(1).Name())))
	requireHeld(t, open(twin, two), segment(1).Name(), content(segment(1)))
}

func TestPushReadyOfADirectoryThatIsNone(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	p, err := a.PushReady(t.Context(), t.TempDir(), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotNil(t, p)
	p, err = a.PushAsked(t.Context(), filepath.Join(t.TempDir(), segment(1).Name()), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Len(t, p.Files, 1)
}

// TestPushReadyOfAFileThatIsGone is no failure: PostgreSQL forgets about those as well.
func TestPushReadyOfAFileThatIsGone(t *testing.T) {
	pg := backlog(t, 1, 4)
	require.NoError(t, os.Remove(pg.path(segment(2).Name())))
	p, err := openArchive(t, repotest.Mem(nil), nil).PushReady(t.Context(), pg.pgdata, nil)
	require.NoError(t, err)
	require.ErrorIs(t, p.Files[1].Err, fs.ErrNotExist)
	require.NoError(t, p.Files[2].Err)
}

// TestPushReadyAroundABadFile: a neighbour that is refused keeps nobody else from being archived.
func TestPushReadyAroundABadFile(t *testing.T) {
	p := backlog(t, 1, 8)
	p.ready(t, segment(3).Name(), content(segment(3))[:4096])
	p.ready(t, segment(4).Name(), waltest.Segment(segment(4), 11, 18))
	a := openArchive(t, repotest.Mem(nil), nil)
	require.NoError(t, push(t, a, segment(5).Name(), noisy(segment(5))))
	got, err := a.PushAsked(t.Context(), p.path(segment(1).Name()), nil)
	require.NoError(t, err)
	require.Len(t, got.Files, 7)
	for i, f := range got.Files {
		var refused *wal.SegmentError
		var foreign *wal.ForeignError
		var conflict *wal.ConflictError
		switch i {
		case 2:
			require.ErrorAs(t, f.Err, &refused)
		case 3:
			require.ErrorAs(t, f.Err, &foreign)
		case 4:
			require.ErrorAs(t, f.Err, &conflict)
		default:
			require.NoError(t, f.Err)
			requireHeld(t, a, segment(uint64(i+1)).Name(), content(segment(uint64(i+1))))
		}
	}
	_, err = a.PushReady(t.Context(), p.pgdata, nil)
	var refused *wal.SegmentError
	require.ErrorAs(t, err, &refused, "the first in order of need")
}

// TestPushReadyAcknowledgesOnlyWhatIsThere makes each call on the store fail, in several ways, one after the other.
func TestPushReadyAcknowledgesOnlyWhatIsThere(t *testing.T) {
	for how, effect := range map[string]repotest.Effect{
		"fails": repotest.Fail(nil), "is done, but the answer lost": repotest.FailAfter(nil), "is taken": repotest.Fail(fs.ErrPermission),
	} {
		t.Run(how, func(t *testing.T) {
			for n := 1; ; n++ {
				state, p := t.TempDir(), backlog(t, 1, 4)
				mem := repotest.Mem(nil)
				openArchive(t, mem, nil)
				faulty := repotest.Faulty(mem, repotest.Fault{Nth: n, Do: effect})
				a, err := reopenArchive(t, faulty, &repo.Options{StateDir: state})
				if err != nil {
					continue
				}
				got, err := a.PushAsked(t.Context(), p.path(segment(1).Name()), &wal.ReadyOptions{Jobs: 2})
				if faulty.Struck() == 0 {
					require.NoError(t, err)
					require.Greater(t, n, 12)
					return
				}
				require.Equal(t, got.Files[0].Err, err)
				requireTruth(t, mem, state, got)

				// And the next call goes on without help.
				a = remembering(t, mem, state)
				for number := range uint64(3) {
					_, err := a.PushAsked(t.Context(), p.path(segment(number+1).Name()), nil)
					require.NoError(t, err)
					requireHeld(t, a, segment(number+1).Name(), content(segment(number+1)))
				}
			}
		})
	}
}

// requireTruth demands that whatever was said, or is remembered, to be archived is.
func requireTruth(t testing.TB, s repo.Store, state string, p *wal.Pushed) {
	t.Helper()
	a := openArchive(t, s, nil)
	said := marked(t, state)
	for _, f := range p.Files {
		if f.Err == nil {
			said = append(said, f.Name)
		}
	}
	for _, name := range said {
		sg, err := wal.ParseSegment(name, wal.MinSegmentSize)
		require.NoError(t, err)
		requireHeld(t, a, name, content(sg))
	}
}

// TestPushReadyOnAnOutage does not try them all.
func TestPushReadyOnAnOutage(t *testing.T) {
	p := backlog(t, 1, 40)
	var log bytes.Buffer
	mem := repotest.Mem(nil)
	openArchive(t, mem, nil)
	faulty := repotest.Faulty(mem, repotest.Fault{Op: repotest.OpCommit, Key: "wal/*/*/*/*[2-9A-F]"})
	r, err := repo.Open(t.Context(), faulty, nil)
	require.NoError(t, err)
	a, err := wal.NewArchive(r, &wal.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	got, err := a.PushAsked(t.Context(), p.path(segment(1).Name()), &wal.ReadyOptions{Jobs: 2})
	require.NoError(t, err, "the one asked for is archived")
	require.ErrorIs(t, got.Files[1].Err, repotest.ErrInjected)
	require.Less(t, len(got.Files), 10)
	require.Equal(t, 39, len(got.Files)+got.Left)
	require.Contains(t, log.String(), "cannot archive a file ahead")
	require.Contains(t, log.String(), segment(2).Name())

	_, err = a.PushReady(t.Context(), p.pgdata, &wal.ReadyOptions{Jobs: 1})
	require.ErrorIs(t, err, repotest.ErrInjected)

	// The file asked for fails: so does the call, and nothing more is begun.
	faulty = repotest.Faulty(mem, repotest.Fault{Op: repotest.OpCreate})
	a, err = reopenArchive(t, faulty, nil)
	require.NoError(t, err)
	got, err = a.PushAsked(t.Context(), p.path(segment(9).Name()), &wal.ReadyOptions{Jobs: 1})
	require.ErrorIs(t, err, repotest.ErrInjected)
	require.Len(t, got.Files, 1)
}

// TestPushReadyBesideAStall: neighbours that hang hold the one asked for no longer than the time given.
func TestPushReadyBesideAStall(t *testing.T) {
	p, state := backlog(t, 1, 30), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		mem := repotest.Mem(nil)
		openArchive(t, mem, nil)
		a := remembering(t, repotest.Faulty(mem, repotest.Fault{Op: repotest.OpCommit, Key: "wal/*/*/*/*[2-9A-F]", Do: repotest.Stall()}), state)
		start := time.Now()
		got, err := a.PushAsked(t.Context(), p.path(segment(1).Name()), &wal.ReadyOptions{Time: 7 * time.Second})
		require.NoError(t, err)
		require.Equal(t, 7*time.Second, time.Since(start))
		require.Len(t, got.Files, 1+8, "one more took the place of the first")
		require.ErrorIs(t, got.Files[1].Err, context.Canceled)
		require.Equal(t, 20, got.Left)
		requireTruth(t, mem, state, got)
	})
}

// TestPushStalled: a deadline ends it, says so, and acknowledges nothing.
func TestPushStalled(t *testing.T) {
	p, state := backlog(t, 1, 4), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		mem := repotest.Mem(nil)
		openArchive(t, mem, nil)
		for _, op := range []repotest.Operation{repotest.OpCreate, repotest.OpWrite, repotest.OpCommit} {
			a := remembering(t, repotest.Faulty(mem, repotest.Fault{Op: op, Key: "wal/*/*/*/*", Do: repotest.Stall()}), state)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			start := time.Now()
			_, err := a.PushAsked(ctx, p.path(segment(1).Name()), nil)
			require.ErrorIs(t, err, context.DeadlineExceeded, op)
			require.ErrorContains(t, err, segment(1).Name())
			require.Equal(t, time.Minute, time.Since(start))
			cancel()
			require.Empty(t, objects(t, mem, "wal/"))
			require.Empty(t, marked(t, state))
			_, err = a.PushReady(ctx, p.pgdata, nil)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}

// TestPushReadyOnASlowRoad: where everything takes long, the work of neighbours is not thrown away.
func TestPushReadyOnASlowRoad(t *testing.T) {
	p := backlog(t, 1, 30)
	synctest.Test(t, func(t *testing.T) {
		mem := repotest.Mem(nil)
		require.NoError(t, openArchive(t, mem, nil).Claim(t.Context(), "me", cluster))
		a := openArchive(t, slowStore{mem, 40 * time.Second}, nil)
		start := time.Now()
		got, err := a.PushAsked(t.Context(), p.path(segment(1).Name()), nil)
		require.NoError(t, err)
		require.Equal(t, 40*time.Second, time.Since(start).Truncate(time.Second))
		require.Len(t, got.Files, 8)
		for _, f := range got.Files {
			require.NoError(t, f.Err)
		}
	})
}

// slowStore takes its time to commit.
type slowStore struct {
	repo.Store
	takes time.Duration
}

func (s slowStore) Create(ctx context.Context, key string) (repo.Writer, error) {
	w, err := s.Store.Create(ctx, key)
	return slowWriter{w, ctx, s.takes}, err
}

type slowWriter struct {
	repo.Writer
	ctx   context.Context
	takes time.Duration
}

func (w slowWriter) Commit() (repo.Info, error) {
	select {
	case <-time.After(w.takes):
		return w.Writer.Commit()
	case <-w.ctx.Done():
		return repo.Info{}, w.ctx.Err()
	}
}
