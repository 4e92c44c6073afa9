package wal_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// held is a store with an archive of a segment and a history.
func held(t *testing.T, kind string) repo.Store {
	t.Helper()
	store := repotest.Mem(nil)
	a := openArchive(t, store, options(t, kind))
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	require.NoError(t, push(t, a, "00000002.history", history))
	return store
}

var history = waltest.History(wal.Fork{Timeline: 1, At: 0x200060})

// requireFetchFails demands that Fetch and Read fail without an answer, and that Fetch leaves no trace, whether there
// was a file or none.
func requireFetchFails(t *testing.T, a *wal.Archive, name string, msg ...any) error {
	t.Helper()
	dir := t.TempDir()
	dst := filepath.Join(dir, "RECOVERYXLOG")
	err := a.Fetch(t.Context(), name, dst)
	requireNoAnswer(t, err, msg...)
	requireOnly(t, dir)
	place(t, dir, "RECOVERYXLOG", []byte("before"))
	requireNoAnswer(t, a.Fetch(t.Context(), name, dst), msg...)
	requireOnly(t, dir, "RECOVERYXLOG")
	b, readErr := os.ReadFile(dst)
	require.NoError(t, readErr)
	require.Equal(t, "before", string(b), msg...)
	requireNoAnswer(t, a.Read(t.Context(), name, io.Discard), msg...)
	return err
}

func TestFetch(t *testing.T) {
	for _, kind := range kinds {
		a := openArchive(t, held(t, kind), options(t, kind))
		dir := t.TempDir()
		dst := filepath.Join(dir, "RECOVERYXLOG")
		for name, want := range map[string][]byte{segment(1).Name(): content(segment(1)), "00000002.history": history} {
			require.NoError(t, a.Fetch(t.Context(), name, dst), "over whatever was there")
			got, err := os.ReadFile(dst)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
			info, err := os.Stat(dst)
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o600), info.Mode())
			requireOnly(t, dir, "RECOVERYXLOG")

			var b bytes.Buffer
			require.NoError(t, a.Read(t.Context(), name, &b))
			require.True(t, bytes.Equal(want, b.Bytes()))
		}
	}
}

func TestFetchWhatIsMissing(t *testing.T) {
	for _, kind := range kinds {
		a := openArchive(t, held(t, kind), options(t, kind))
		dir := t.TempDir()
		for _, name := range []string{
			segment(2).Name(), segment(1).On(2).Name(), segment(1).Name() + ".partial", segment(1).Name() + ".00000028.backup",
			"00000001.history", // which recovery asks for
			"00000003.history", "FFFFFFFF.history", "0000000100000000000000FF", "FFFFFFFFFFFFFFFF000000FF",
		} {
			err := a.Fetch(t.Context(), name, filepath.Join(dir, "x"))
			require.ErrorIs(t, err, fs.ErrNotExist, name)
			require.ErrorContains(t, err, name)
			require.ErrorIs(t, a.Read(t.Context(), name, io.Discard), fs.ErrNotExist, name)
		}
		requireOnly(t, dir)
	}
}

func TestFetchWithoutAnAnswer(t *testing.T) {
	a := openArchive(t, held(t, "plain"), nil)
	for _, name := range []string{"", "x", "../" + segment(1).Name(), segment(2).Name() + ".gz"} {
		err := requireFetchFails(t, a, name)
		var e *wal.NameError
		require.ErrorAs(t, err, &e, "%q is no name, so the archive was not asked", name)
	}

	dir := t.TempDir()
	for what, dst := range map[string]string{
		"no directory":              filepath.Join(dir, "no", "RECOVERYXLOG"),
		"a file for a directory":    filepath.Join(place(t, dir, "file", nil), "RECOVERYXLOG"),
		"a directory is there":      dir,
		"no name":                   "",
		"a name that is too long":   filepath.Join(dir, strings.Repeat("x", 300)),
		"a directory in the device": "/dev/null/x",
	} {
		requireNoAnswer(t, a.Fetch(t.Context(), segment(1).Name(), dst), what)
	}
	requireOnly(t, dir, "file")
}

func TestFetchCancelled(t *testing.T) {
	store := held(t, "plain")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dst := filepath.Join(t.TempDir(), "x")
	for _, name := range []string{segment(1).Name(), segment(2).Name()} {
		err := openArchive(t, store, nil).Fetch(ctx, name, dst)
		requireNoAnswer(t, err)
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoFileExists(t, dst)
}

// TestFetchFailsWhereTheStoreDoes makes each call on the store fail, one after the other, in several ways.
func TestFetchFailsWhereTheStoreDoes(t *testing.T) {
	for _, kind := range kinds {
		store := held(t, kind)
		for _, name := range []string{"00000002.history", segment(1).Name(), segment(2).Name()} {
			for how, effect := range map[string]repotest.Effect{
				"fails": repotest.Fail(nil), "is forbidden": repotest.Fail(fs.ErrPermission), "times out": repotest.Fail(context.DeadlineExceeded),
			} {
				for n := 1; ; n++ {
					faulty := repotest.Faulty(store, repotest.Fault{Nth: n, Do: effect})
					a, err := reopenArchive(t, faulty, options(t, kind))
					dir := t.TempDir()
					if err == nil {
						err = a.Fetch(t.Context(), name, filepath.Join(dir, "x"))
					}
					if faulty.Struck() == 0 {
						require.Greater(t, n, 4, "there were calls to fail")
						break
					}
					requireNoAnswer(t, err, "%s: call %d, %v, %s", name, n, faulty.Calls()[n-1], how)
					requireOnly(t, dir)
				}
			}
		}
	}
}

func TestFetchOfABodyThatBreaksOff(t *testing.T) {
	for _, kind := range kinds {
		store := held(t, kind)
		key := wal.Key(cluster, parseName(t, segment(1).Name()))
		size := int64(len(readObject(t, store, key)))
		for _, at := range []int64{0, 1, 100, size / 2, size - 1} {
			faulty := repotest.Faulty(store, repotest.Fault{Op: repotest.OpOpen, Key: key, Do: repotest.Cut(at)})
			err := requireFetchFails(t, openArchive(t, faulty, options(t, kind)), segment(1).Name(), "at %d of %d", at, size)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			var corrupt *repo.CorruptError
			require.NotErrorAs(t, err, &corrupt, "not to be able to read is no corruption")
		}
	}
}

func TestFetchWithoutTheDataKey(t *testing.T) {
	store := copyStore(t, held(t, "encrypted"), func(key string) string {
		if strings.HasPrefix(key, "keys/") {
			return ""
		}
		return key
	})
	err := requireFetchFails(t, openArchive(t, store, options(t, "encrypted")), segment(1).Name())
	require.ErrorContains(t, err, "keys/")
}

func TestFetchWithoutAnIdentity(t *testing.T) {
	store := held(t, "encrypted")
	err := requireFetchFails(t, openArchive(t, store, &repo.Options{Cipher: cipher(t, "")}), segment(1).Name())
	var e *crypto.IdentityError
	require.ErrorAs(t, err, &e)
	require.Equal(t, []string{keys().recipient}, e.Recipients)

	stranger, _, err := crypto.Generate()
	require.NoError(t, err)
	err = requireFetchFails(t, openArchive(t, store, &repo.Options{Cipher: cipher(t, stranger)}), segment(1).Name())
	require.ErrorAs(t, err, &e)
	require.Equal(t, 1, e.Tried)
}

func TestFetchOneTargetByMany(t *testing.T) {
	a := openArchive(t, held(t, "plain"), nil)
	dir := t.TempDir()
	dst := filepath.Join(dir, "x")
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = a.Fetch(t.Context(), segment(1).Name(), dst) })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else {
			requireNoAnswer(t, err)
			require.ErrorContains(t, err, "another process is writing it")
		}
	}
	require.Positive(t, done)
	requireOnly(t, dir, "x")
	got, err := os.ReadFile(dst)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content(segment(1)), got))
}

func TestReadToAWriterThatFails(t *testing.T) {
	a := openArchive(t, held(t, "plain"), nil)
	r, w := io.Pipe()
	require.NoError(t, r.Close())
	err := a.Read(t.Context(), segment(1).Name(), w)
	requireNoAnswer(t, err)
	require.ErrorIs(t, err, io.ErrClosedPipe)
}
