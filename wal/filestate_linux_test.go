package wal_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

// TestMarksTellByTheFile: a file that has not changed since it was archived ahead is not read again. The marks here have
// the digest of something else, so that only what is told by the file is believed.
func TestMarksTellByTheFile(t *testing.T) {
	name := segment(1).Name()
	rewrite := func(t *testing.T, path string) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(content(segment(1))[:1], 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	modified := func(t *testing.T, path string) time.Time {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.ModTime()
	}
	for what, c := range map[string]struct {
		happens  func(t *testing.T, path string)
		believed bool
	}{
		"nothing":          {func(*testing.T, string) {}, true},
		"it is read":       {func(t *testing.T, path string) { _, err := os.ReadFile(path); require.NoError(t, err) }, true},
		"it is written to": {rewrite, false},
		"and has its old time again": {func(t *testing.T, path string) {
			old := modified(t, path)
			rewrite(t, path)
			require.NoError(t, os.Chtimes(path, old, old))
			require.Equal(t, old, modified(t, path))
		}, false},
		"another file in its place": {func(t *testing.T, path string) {
			old := modified(t, path)
			require.NoError(t, os.WriteFile(path+".new", content(segment(1)), 0o600))
			require.NoError(t, os.Chtimes(path+".new", old, old))
			require.NoError(t, os.Rename(path+".new", path))
		}, false},
		"it is recycled, and the name comes back": {func(t *testing.T, path string) {
			require.NoError(t, os.Rename(path, path+".later"))
			require.NoError(t, os.Rename(path+".later", path))
		}, false},
		"it is longer": {func(t *testing.T, path string) {
			require.NoError(t, os.Truncate(path, 2<<20))
			require.NoError(t, os.Truncate(path, 1<<20))
		}, false},
	} {
		t.Run(what, func(t *testing.T) {
			state, p := t.TempDir(), backlog(t, 1, 3)
			awaitTick(t, p.path(name))
			a := settled(t, repotest.Mem(nil), state)
			_, err := a.PushReady(t.Context(), p.pgdata, nil)
			require.NoError(t, err)
			mark := filepath.Join(glob(t, state), "pushed", name)
			var m wal.Mark
			b, err := os.ReadFile(mark)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(b, &m))
			require.NotEmpty(t, m.State)
			m.Digest = strings.Repeat("0", 64)
			require.NoError(t, os.WriteFile(mark, wal.Sealed(m), 0o600))

			c.happens(t, p.path(name))
			got, err := a.PushAsked(t.Context(), p.path(name), nil)
			require.NoError(t, err)
			require.Equal(t, c.believed, got.Files[0].Remembered)
		})
	}
}

// awaitTick waits until the clock of the file system has moved since a file was changed.
func awaitTick(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		probe := filepath.Join(t.TempDir(), "probe")
		require.NoError(t, os.WriteFile(probe, nil, 0o600))
		now, err := os.Stat(probe)
		require.NoError(t, err)
		return now.ModTime().After(info.ModTime())
	}, patience, time.Millisecond)
}

// TestMarksOfFilesThatAreNew do not tell by the file, which may be changed once more at the same time.
func TestMarksOfFilesThatAreNew(t *testing.T) {
	state, p := t.TempDir(), backlog(t, 1, 3)
	now := time.Now().Add(time.Minute)
	a := at(t, repotest.Mem(nil), state, func() time.Time { return now })
	require.NoError(t, os.Chtimes(p.path(segment(1).Name()), now, now.Add(-time.Second)))
	_, err := a.PushReady(t.Context(), p.pgdata, nil)
	require.NoError(t, err)
	for number, settled := range map[uint64]bool{1: false, 2: true} {
		b, err := os.ReadFile(filepath.Join(glob(t, state), "pushed", segment(number).Name()))
		require.NoError(t, err)
		require.Equal(t, settled, strings.Contains(string(b), `"state"`))
	}
	got, err := a.PushAsked(t.Context(), p.path(segment(1).Name()), nil)
	require.NoError(t, err)
	require.True(t, got.Files[0].Remembered, "by its digest")
}
