package repo_test

import (
	"context"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// A store that repeats a request whose answer was lost says that the object exists, though it has just written it.
func TestStoreThatRepeats(t *testing.T) {
	putPages := func(ctx context.Context, r *repo.Repo) error {
		_, err := r.Put(ctx, "new", nil, func(w io.Writer) error {
			_, err := w.Write(pages(300_000))
			return err
		})
		return err
	}
	putPack := func(ctx context.Context, r *repo.Repo) error {
		p, err := writePack(ctx, r, "new", pages(300_000), noise(1000, 1))
		if err == nil {
			assert.Len(t, p.Frames, 2)
			info, statErr := r.Store().Stat(ctx, "new")
			require.NoError(t, statErr)
			assert.Equal(t, info.Size, p.Size)
		}
		return err
	}
	ways := map[string]func(context.Context, *repo.Repo) error{"Put": putPages, "CreatePack": putPack}
	bothModes(t, func(t *testing.T, g *rig) {
		open := func(t *testing.T, faults ...repotest.Fault) *repo.Repo {
			t.Helper()
			r, err := repo.Open(t.Context(), repotest.Faulty(copyOf(t, g.store), faults...), &repo.Options{Cipher: cipherOf(t, g), Now: testNow})
			require.NoError(t, err)
			return r
		}
		repeat := repotest.Fault{Op: repotest.OpCommit, Key: "new", Do: repotest.FailAfter(fs.ErrExist)}
		for name, do := range ways {
			t.Run(name, func(t *testing.T) {
				require.NoError(t, do(t.Context(), open(t, repeat)))

				// What cannot be compared is taken, and not missing.
				for _, op := range []repotest.Operation{repotest.OpOpen, repotest.OpRead} {
					err := do(t.Context(), open(t, repeat, repotest.Fault{Op: op, Key: "new", Do: repotest.Fail(fs.ErrNotExist)}))
					require.ErrorIs(t, err, fs.ErrExist)
					require.NotErrorIs(t, err, fs.ErrNotExist)
				}

				// Something else is there, be it of the same size.
				for _, spoil := range []func([]byte) []byte{
					func(b []byte) []byte { return b[:len(b)-1] },
					func(b []byte) []byte { return append(b, 0) },
					func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
				} {
					r := open(t)
					require.NoError(t, do(t.Context(), r))
					other := spoil(storedBytes(t, r.Store(), "new"))
					require.NoError(t, r.Store().Delete(t.Context(), "new"))
					storeBytes(t, r.Store(), "new", other)
					require.ErrorIs(t, do(t.Context(), r), fs.ErrExist)
				}
			})
		}
		t.Run("with a label", func(t *testing.T) {
			_, err := put(t.Context(), open(t, repeat), "new", "label", pages(1000))
			require.ErrorIs(t, err, fs.ErrExist, "the caller compares")
		})
	})
	t.Run("Init", func(t *testing.T) {
		for n := 1; ; n++ {
			s := repotest.Faulty(repotest.Mem(nil), repotest.Fault{Op: repotest.OpCommit, Nth: n, Do: repotest.FailAfter(fs.ErrExist)})
			_, err := repo.Init(t.Context(), s, nil)
			require.NoError(t, err)
			if s.Struck() == 0 {
				require.Greater(t, n, 2)
				break
			}
		}
	})
}
