package wal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

const backupNotes = "START WAL LOCATION: 0/1000028 (file 000000010000000000000010)\nSTOP WAL LOCATION: 0/1000100 (file 000000010000000000000010)\n"

func TestPushEveryKindOfFile(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			store := repotest.Mem(nil)
			a := openArchive(t, store, options(t, kind))
			files := map[string][]byte{
				segment(16).Name():                      content(segment(16)),
				segment(17).Name():                      noisy(segment(17)),
				segment(18).On(3).Name():                content(segment(18).On(3)),
				segment(18).On(3).Name() + ".partial":   content(segment(18).On(3)),
				segment(19).On(4).Name():                content(segment(19).On(2)), // begins with pages of an older timeline
				"00000003.history":                      waltest.History(wal.Fork{Timeline: 1, At: segment(17).Start() + 0x60}),
				segment(16).Name() + ".00000028.backup": []byte(backupNotes),
			}
			require.NoError(t, a.Claim(t.Context(), "me", cluster))
			dir := t.TempDir()
			for name, b := range files {
				path := place(t, dir, name, b)
				require.NoError(t, a.Push(t.Context(), path), name)
				require.NoError(t, a.Push(t.Context(), path), "%s again", name)
				require.NoError(t, push(t, openArchive(t, store, options(t, kind)), name, b), "%s again, by another process", name)
			}
			require.Len(t, objects(t, store, "wal/"), len(files))
			for name, b := range files {
				requireHeld(t, a, name, b)
				requireHeld(t, openArchive(t, store, options(t, kind)), name, b)
			}
			requireOnly(t, dir, sortedKeys(files)...)
		})
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	return list
}

func TestPushOtherContent(t *testing.T) {
	files := map[string][]byte{
		segment(1).Name():                      content(segment(1)),
		segment(1).Name() + ".partial":         content(segment(1)),
		"00000002.history":                     waltest.History(wal.Fork{Timeline: 1, At: 0x100060}),
		segment(1).Name() + ".00000028.backup": []byte(backupNotes),
	}
	for kind, o := range map[string]*repo.Options{
		"plain": nil, "encrypted": options(t, "encrypted"), "write-only": {Cipher: cipher(t, "")},
	} {
		t.Run(kind, func(t *testing.T) {
			store := repotest.Mem(nil)
			require.NoError(t, openArchive(t, store, o).Claim(t.Context(), "me", cluster))
			for name, b := range files {
				require.NoError(t, push(t, openArchive(t, store, o), name, b))
				other := append([]byte(nil), b...)
				other[len(other)-2] ^= 1
				err := push(t, openArchive(t, store, o), name, other)
				var conflict *wal.ConflictError
				require.ErrorAs(t, err, &conflict, name)
				require.Equal(t, &wal.ConflictError{Name: name, Archived: digest(b), Offered: digest(other)}, conflict)
				require.Contains(t, err.Error(), name)
				require.NoError(t, push(t, openArchive(t, store, o), name, b), "the same content stays fine")
			}
			if kind != "write-only" {
				for name, b := range files {
					requireHeld(t, openArchive(t, store, o), name, b)
				}
			}
		})
	}
}

// TestPushOnAWriteOnlyHost: it writes, and what it writes it cannot read.
func TestPushOnAWriteOnlyHost(t *testing.T) {
	store := repotest.Mem(nil)
	state := t.TempDir()
	host := func() *wal.Archive {
		return openArchive(t, store, &repo.Options{Cipher: cipher(t, ""), StateDir: state})
	}
	for number := range uint64(3) {
		require.NoError(t, push(t, host(), segment(number).Name(), content(segment(number))))
	}
	require.Len(t, objects(t, store, "keys/"), 1, "the processes of one host use one data key")
	dst := filepath.Join(t.TempDir(), "x")
	requireNoAnswer(t, host().Fetch(t.Context(), segment(1).Name(), dst))
	require.NoFileExists(t, dst)
	require.ErrorIs(t, host().Fetch(t.Context(), segment(9).Name(), dst), fs.ErrNotExist, "that, it can tell")
	requireHeld(t, openArchive(t, store, options(t, "encrypted")), segment(1).Name(), content(segment(1)))
}

func TestPushHistoryFirst(t *testing.T) {
	history := waltest.History(wal.Fork{Timeline: 1, At: 0x100060})
	notes := segment(1).Name() + ".00000028.backup"
	controls := seeds(t, "control", "pg*")
	for name, b := range map[string][]byte{"00000002.history": history, notes: []byte(backupNotes)} {
		// Outside of a data directory nothing tells whose it is.
		store := repotest.Mem(nil)
		a := openArchive(t, store, nil)
		err := a.Push(t.Context(), place(t, t.TempDir(), name, b))
		requireNoAnswer(t, err)
		require.ErrorContains(t, err, "push a segment first")
		requireNoAnswer(t, push(t, a, name, b))
		require.Empty(t, objects(t, store, "wal/"))
		require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
		require.NoError(t, push(t, a, name, b))

		// Inside of one, pg_control does.
		for control, c := range controls {
			id := binary.LittleEndian.Uint64(c)
			pgdata := t.TempDir()
			place(t, filepath.Join(pgdata, "global"), "pg_control", c)
			path := place(t, filepath.Join(pgdata, "pg_wal"), name, b)
			a := openArchive(t, repotest.Mem(nil), nil)
			require.NoError(t, a.Push(t.Context(), path), control)
			s, err := a.System(t.Context())
			require.NoError(t, err)
			require.Equal(t, id, s.ID, control)
			requireHeld(t, a, name, b)

			// As archive_command does: from the data directory, by a relative path.
			t.Chdir(pgdata)
			require.NoError(t, openArchive(t, repotest.Mem(nil), nil).Push(t.Context(), filepath.Join("pg_wal", name)), control)

			// And it tells when the file is another's.
			a = openArchive(t, repotest.Mem(nil), nil)
			require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
			var e *wal.ForeignError
			require.ErrorAs(t, a.Push(t.Context(), path), &e, control)
			require.Equal(t, &wal.ForeignError{Name: name, Got: id, Want: systemID}, e)
		}
	}
}

func TestPushByMany(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			store := repotest.Mem(nil)
			if kind == "plain" {
				var err error
				store, err = repo.OpenDir(t.TempDir(), nil)
				require.NoError(t, err)
			}
			a := openArchive(t, store, options(t, kind))
			path := place(t, t.TempDir(), segment(1).Name(), content(segment(1)))
			var wg sync.WaitGroup
			for i := range 32 {
				pusher := a
				if i%8 == 7 { // as another process would
					pusher = openArchive(t, store, options(t, kind))
				}
				wg.Go(func() {
					if err := pusher.Push(t.Context(), path); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			require.Len(t, objects(t, store, "wal/"), 1)
			requireHeld(t, a, segment(1).Name(), content(segment(1)))
		})
	}
}

func TestPushByRivals(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	const rivals = 8
	errs := make([]error, rivals)
	contents := make([][]byte, rivals)
	var wg sync.WaitGroup
	for i := range rivals {
		contents[i] = content(segment(1))
		contents[i][5000] = byte(i)
		wg.Go(func() { errs[i] = push(t, a, segment(1).Name(), contents[i]) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil {
			require.Equal(t, -1, winner, "one wins")
			winner = i
		}
	}
	require.GreaterOrEqual(t, winner, 0)
	for i, err := range errs {
		var e *wal.ConflictError
		if i != winner {
			require.ErrorAs(t, err, &e)
			require.Equal(t, digest(contents[winner]), e.Archived)
			require.Equal(t, digest(contents[i]), e.Offered)
		}
	}
	requireHeld(t, a, segment(1).Name(), contents[winner])
}

// TestPushFailsWhereTheStoreDoes makes each call on the store fail, one after the other.
func TestPushFailsWhereTheStoreDoes(t *testing.T) {
	for _, kind := range kinds {
		name, want := segment(1).Name(), content(segment(1))
		if kind == "encrypted" { // adds the calls for keys; a smaller file does
			name, want = "00000002.history", waltest.History(wal.Fork{Timeline: 1, At: 0x100060})
		}
		for how, effect := range map[string]repotest.Effect{"at once": repotest.Fail(nil), "when all is done": repotest.FailAfter(nil)} {
			t.Run(kind+", "+how, func(t *testing.T) {
				for n := 1; ; n++ {
					store := repotest.Mem(nil)
					first := openArchive(t, store, options(t, kind))
					if kind == "encrypted" {
						require.NoError(t, first.Claim(t.Context(), "me", cluster))
					}
					faulty := repotest.Faulty(store, repotest.Fault{Nth: n, Do: effect})
					a, err := reopenArchive(t, faulty, options(t, kind))
					if err == nil {
						err = push(t, a, name, want)
					}
					if faulty.Struck() == 0 {
						require.NoError(t, err)
						require.Greater(t, n, 8, "there were calls to fail")
						break
					}
					call := faulty.Calls()[n-1]
					if err == nil {
						// It failed by itself: systems/1 is missing at first, and a body ends.
						require.Contains(t, []repotest.Operation{repotest.OpOpen, repotest.OpRead}, call.Op, "call %d was %v", n, call)
					} else {
						require.ErrorIs(t, err, repotest.ErrInjected, "call %d was %v", n, call)
					}
					// Whatever happened, the next push by the next process succeeds.
					next := openArchive(t, store, options(t, kind))
					require.NoError(t, push(t, next, name, want), "call %d was %v", n, call)
					requireHeld(t, next, name, want)
					require.Len(t, objects(t, store, "wal/"), 1)
				}
			})
		}
	}
}

// TestPushOfALostAnswer: the store committed the object, and said it had not.
func TestPushOfALostAnswer(t *testing.T) {
	for _, kind := range kinds {
		store := repotest.Mem(nil)
		o := options(t, kind)
		require.NoError(t, openArchive(t, store, o).Claim(t.Context(), "me", cluster))
		faulty := repotest.Faulty(store, repotest.Fault{Op: repotest.OpCommit, Key: "wal/*/*/*/*", Nth: 1, Do: repotest.FailAfter(nil)})
		a := openArchive(t, faulty, o)
		require.ErrorIs(t, push(t, a, segment(1).Name(), content(segment(1))), repotest.ErrInjected, "nobody knows that it is durable")
		require.Equal(t, 1, faulty.Struck())
		require.Len(t, objects(t, store, "wal/"), 1)
		require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
		requireHeld(t, a, segment(1).Name(), content(segment(1)))
		other := content(segment(1))
		other[9999]++
		var e *wal.ConflictError
		require.ErrorAs(t, push(t, a, segment(1).Name(), other), &e)
	}
}

func TestPushCancelled(t *testing.T) {
	want := content(segment(1))
	for _, op := range []repotest.Operation{repotest.OpCreate, repotest.OpWrite, repotest.OpCommit, repotest.OpOpen} {
		store := repotest.Mem(nil)
		require.NoError(t, openArchive(t, store, nil).Claim(t.Context(), "me", cluster))
		ctx, cancel := context.WithCancelCause(t.Context())
		faulty := repotest.Faulty(store, repotest.Fault{Op: op, Key: "systems/*", Do: repotest.Stall()}, repotest.Fault{Op: op, Key: "wal/*/*/*/*", Do: repotest.Stall()})
		a, err := reopenArchive(t, faulty, nil)
		require.NoError(t, err)
		r := &tripwire{r: bytes.NewReader(want), trip: func() { cancel(nil) }}
		err = a.PushContent(ctx, parseName(t, segment(1).Name()), r, int64(len(want)))
		require.ErrorIs(t, err, context.Canceled, op)
		require.Empty(t, objects(t, store, "wal/"))
		require.NoError(t, push(t, openArchive(t, store, nil), segment(1).Name(), want))
	}
}

// tripwire calls trip when it is read.
type tripwire struct {
	r    io.ReaderAt
	trip func()
}

func (r *tripwire) ReadAt(p []byte, off int64) (int, error) {
	r.trip()
	return r.r.ReadAt(p, off)
}

func TestPushOfAFileThatCannotBeRead(t *testing.T) {
	want := content(segment(1))
	broken := errors.New("broken disk")
	for _, at := range []int64{0, 8192, 1 << 19, 1<<20 - 1} {
		store := repotest.Mem(nil)
		a := openArchive(t, store, nil)
		require.NoError(t, a.Claim(t.Context(), "me", cluster))
		r := readerAt(func(p []byte, off int64) (int, error) {
			if off <= at && at < off+int64(len(p)) {
				return 0, broken
			}
			return bytes.NewReader(want).ReadAt(p, off)
		})
		err := a.PushContent(t.Context(), parseName(t, segment(1).Name()), r, int64(len(want)))
		require.ErrorIs(t, err, broken, "%d", at)
		require.Empty(t, objects(t, store, "wal/"))
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// TestPushOfAFileThatChanges: what is archived would not be what its digest says.
func TestPushOfAFileThatChanges(t *testing.T) {
	const at = 1 << 19
	var readers atomic.Int32
	want := content(segment(1))
	r := readerAt(func(p []byte, off int64) (int, error) {
		n, err := bytes.NewReader(want).ReadAt(p, off)
		if off <= at && at < off+int64(n) && readers.Add(1) == 2 {
			p[at-off]++ // the second who reads here sees something else
		}
		return n, err
	})
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	err := a.PushContent(t.Context(), parseName(t, segment(1).Name()), r, int64(len(want)))
	var e *wal.SegmentError
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, err, "changed")
	require.Empty(t, objects(t, store, "wal/"))
}

// putObject writes an object past the archive.
func putObject(t testing.TB, r *repo.Repo, key string, content, label []byte) {
	t.Helper()
	putWithNotes(t, r, key, content, label, nil)
}

func putWithNotes(t testing.TB, r *repo.Repo, key string, content, label, notes []byte) {
	t.Helper()
	o := &repo.PutOptions{
		Label: func() ([]byte, error) { return label, nil },
		Notes: func() ([]byte, error) { return notes, nil },
	}
	_, err := r.Put(t.Context(), key, o, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	require.NoError(t, err)
}

func TestErrorsNameWhatTheyAreAbout(t *testing.T) {
	inner := errors.New("inner")
	for err, want := range map[error][]string{
		&wal.SegmentError{Name: "SEG", Err: inner}:                         {"SEG", "inner"},
		&wal.ForeignError{Name: "SEG", Got: 11, Want: 22}:                  {"SEG", "11", "22", "upgraded"},
		&wal.ForeignError{Name: "SEG", Got: 11, Want: 22, Earlier: true}:   {"SEG", "11", "before", "22"},
		&wal.AmbiguousError{Name: "SEG", Systems: []uint64{11, 22}}:        {"SEG", "11 22"},
		&wal.ConflictError{Name: "SEG", Archived: [32]byte{0xAB, 1: 0xCD}}: {"SEG", "abcd"},
		&wal.NameError{Name: "SEG", Reason: "because"}:                     {"SEG", "because"},
	} {
		for _, w := range want {
			require.Contains(t, err.Error(), w)
		}
		require.False(t, strings.ContainsAny(err.Error(), "\n"))
		require.NotEmpty(t, fmt.Sprint(err))
	}
	require.ErrorIs(t, &wal.SegmentError{Err: inner}, inner)
}
