package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// A chore is something done to a repository, whole: from Open on.
type chore struct {
	name string
	init bool // the store has no repository yet
	do   func(ctx context.Context, t *testing.T, s repo.Store) error
	done func(t *testing.T, s repo.Store) // checks that it was done
}

func chores(t *testing.T, g *rig) []chore {
	t.Helper()
	_, err := put(t.Context(), g.w, "stream", "label", pages(300_000))
	require.NoError(t, err)
	pack, err := writePack(t.Context(), g.w, "pack", pages(300_000), pages(1000))
	require.NoError(t, err)
	require.NoError(t, g.w.CreateRecord(t.Context(), "record", note{Count: 3}))

	writeOptions := func() *repo.Options { return &repo.Options{Now: testNow, Cipher: cipherOf(t, g)} }
	with := func(o func() *repo.Options, f func(ctx context.Context, r *repo.Repo) error) func(context.Context, *testing.T, repo.Store) error {
		return func(ctx context.Context, _ *testing.T, s repo.Store) error {
			r, err := repo.Open(ctx, s, o())
			if err != nil {
				return err
			}
			return f(ctx, r)
		}
	}
	readOptions := func() *repo.Options { return g.readOptions(t) }
	return []chore{
		{
			name: "Init", init: true,
			do: func(ctx context.Context, _ *testing.T, s repo.Store) error {
				_, err := repo.Init(ctx, s, writeOptions())
				return err
			},
			done: func(t *testing.T, s repo.Store) { g.reader(t, s) },
		},
		{
			name: "Put",
			do: with(writeOptions, func(ctx context.Context, r *repo.Repo) error {
				_, err := put(ctx, r, "new", "label", pages(1000))
				return err
			}),
			done: func(t *testing.T, s repo.Store) {
				_, _, err := get(t.Context(), g.reader(t, s), "new")
				require.NoError(t, err)
			},
		},
		{
			name: "CreatePack",
			do: with(writeOptions, func(ctx context.Context, r *repo.Repo) error {
				_, err := writePack(ctx, r, "new", pages(1000))
				return err
			}),
		},
		{
			name: "CreateRecord",
			do: with(writeOptions, func(ctx context.Context, r *repo.Repo) error {
				return r.CreateRecord(ctx, "new", note{Count: 1})
			}),
			done: func(t *testing.T, s repo.Store) {
				var got note
				require.NoError(t, g.reader(t, s).ReadRecord(t.Context(), "new", &got))
			},
		},
		{name: "OpenObject", do: with(readOptions, func(ctx context.Context, r *repo.Repo) error {
			_, _, err := get(ctx, r, "stream")
			return err
		})},
		{name: "OpenFront", do: with(readOptions, func(ctx context.Context, r *repo.Repo) error {
			o, err := r.OpenFront(ctx, "stream", 1<<30)
			if err != nil {
				return err
			}
			defer o.Close()
			_, err = io.Copy(io.Discard, o)
			return err
		})},
		{name: "Label", do: with(readOptions, func(ctx context.Context, r *repo.Repo) error {
			_, err := r.Label(ctx, "stream")
			return err
		})},
		{name: "ReadPack", do: with(readOptions, func(ctx context.Context, r *repo.Repo) error {
			_, err := readPack(ctx, r, pack)
			return err
		})},
		{name: "OpenPack", do: with(readOptions, func(ctx context.Context, r *repo.Repo) error {
			_, err := readFrames(ctx, r, pack)
			return err
		})},
		{name: "ReadRecord", do: with(readOptions, func(ctx context.Context, r *repo.Repo) error {
			var got note
			return r.ReadRecord(ctx, "record", &got)
		})},
		{name: "WithLease", do: with(writeOptions, func(ctx context.Context, r *repo.Repo) error {
			return r.WithLease(ctx, "backup", func(ctx context.Context, l *repo.Lease) error { return l.Confirm(ctx) })
		})},
	}
}

// copyOf returns a store with the same objects.
func copyOf(t *testing.T, s repo.Store) repo.Store {
	t.Helper()
	c := repotest.Mem(nil)
	for _, key := range storedKeys(t, s, "") {
		storeBytes(t, c, key, storedBytes(t, s, key))
	}
	return c
}

// Whatever call to the store fails, and however: the failure is reported as what it is, nothing is half done, and doing
// it again works.
func TestFaultAtEveryCall(t *testing.T) {
	effects := map[string]repotest.Effect{
		"fails":                repotest.Fail(nil),
		"fails after the fact": repotest.FailAfter(nil),
		"breaks off":           repotest.Cut(100),
	}
	bothModes(t, func(t *testing.T, g *rig) {
		for _, c := range chores(t, g) {
			for what, effect := range effects {
				t.Run(c.name+" "+what, func(t *testing.T) {
					for n := 1; ; n++ {
						inside := copyOf(t, g.store)
						if c.init {
							inside = repotest.Mem(nil)
						}
						fault := repotest.Fault{Nth: n, Do: effect}
						if what == "breaks off" {
							fault.Op = repotest.OpOpen
						}
						s := repotest.Faulty(inside, fault)
						err := c.do(t.Context(), t, s)
						if s.Struck() == 0 {
							require.NoError(t, err)
							require.Greater(t, n, 1)
							return
						}
						call := s.Calls()[0]
						if err != nil {
							broken := what == "breaks off" && errors.Is(err, io.ErrUnexpectedEOF)
							if !broken {
								require.ErrorIs(t, err, repotest.ErrInjected, "call %d", n)
							}
							var corrupt *repo.CorruptError
							require.NotErrorAs(t, err, &corrupt, "call %d", n)
							requireNoAnswerAtAll(t, err)
							require.NotErrorIs(t, err, repo.ErrNoRepository)
							require.NotErrorIs(t, err, repo.ErrUnsafeStore)
						} else if c.done != nil {
							c.done(t, inside) // what failed was not needed, as deleting a probe is not
						}
						// Again, without the fault. A lease is free, whose taking failed.
						err = c.do(t.Context(), t, inside)
						if !errors.Is(err, fs.ErrExist) {
							require.NoError(t, err, "after call %d, %v", n, call)
						}
						if c.done != nil {
							c.done(t, inside)
						}
					}
				})
			}
		}
	})
}

// The answer to a commit may get lost. What was written is there, whole, and nobody else's.
func TestAmbiguousCommit(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		for _, key := range []string{"stream", "pack", "record"} {
			lost := repotest.Fault{Op: repotest.OpCommit, Key: key, Nth: 1, Do: repotest.FailAfter(nil)}
			r, err := repo.Open(t.Context(), repotest.Faulty(g.store, lost), &repo.Options{Cipher: cipherOf(t, g)})
			require.NoError(t, err)
			do := func(content string) error {
				switch key {
				case "stream":
					_, err = put(t.Context(), r, key, "", []byte(content))
				case "pack":
					_, err = writePack(t.Context(), r, key, []byte(content))
				default:
					err = r.CreateRecord(t.Context(), key, note{Text: content})
				}
				return err
			}
			requireOutage(t, do("first"))
			require.ErrorIs(t, do("again"), fs.ErrExist)
		}
		_, content, err := get(t.Context(), g.r, "stream")
		require.NoError(t, err)
		assert.Equal(t, "first", string(content))
		frame := repo.Frame{Raw: 5, Stored: len(compress(t, []byte("first"))), Codec: repo.CodecZstd, Hash: repo.HashOf([]byte("first"))}
		_, err = readPack(t.Context(), g.r, repo.Pack{Key: "pack", Frames: []repo.Frame{frame}})
		require.NoError(t, err)
		var got note
		require.NoError(t, g.r.ReadRecord(t.Context(), "record", &got))
		assert.Equal(t, "first", got.Text)
	})
}

// A read that breaks off is a failure; an object that is shorter than it was is damage.
func TestCutIsNotTruncated(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		_, err := put(t.Context(), g.w, "a", "label", pages(500_000))
		require.NoError(t, err)
		p, err := writePack(t.Context(), g.w, "b", pages(500_000))
		require.NoError(t, err)
		size := int64(len(storedBytes(t, g.store, "a")))
		for at := int64(0); at < size; at += size/50 + 1 {
			for key, read := range map[string]func(r *repo.Repo) error{
				"a": func(r *repo.Repo) error { _, _, err := get(t.Context(), r, "a"); return err },
				"b": func(r *repo.Repo) error { _, err := readPack(t.Context(), r, p); return err },
			} {
				what := fmt.Sprintf("%s at %d", key, at)
				err := read(g.reader(t, repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: repotest.Cut(at)})))
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, what)
				var corrupt *repo.CorruptError
				require.NotErrorAs(t, err, &corrupt, what)
				err = read(g.reader(t, repotest.Faulty(g.store, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: repotest.Truncate(at)})))
				requireCorrupt(t, err, key)
			}
		}
	})
}
