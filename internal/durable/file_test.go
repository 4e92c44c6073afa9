package durable_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/durable"
)

var soak = flag.Bool("soak", false, "kill 200 times instead of 25")

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// files returns the names and contents of the files in a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		all[e.Name()] = string(b)
	}
	return all
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, write := range []func(string, fs.FileMode, func(io.Writer) error) error{durable.WriteFile, durable.WriteUnsynced} {
		for _, content := range []string{"first", "", strings.Repeat("long ", 1<<18), "short"} {
			require.NoError(t, write(path, 0o600, text(content)))
			require.Equal(t, map[string]string{"file": content}, files(t, dir))
		}
	}
	for _, perm := range []fs.FileMode{0o600, 0o640, 0o666} {
		require.NoError(t, durable.WriteFile(path, perm, text("x")))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, perm, info.Mode(), "whatever the umask is")
	}
}

func TestWriteFileFailsWithoutATrace(t *testing.T) {
	boom := errors.New("boom")
	for name, write := range map[string]func(io.Writer) error{
		"at once": func(io.Writer) error { return boom },
		"in the middle": func(w io.Writer) error {
			_, err := io.Copy(w, io.MultiReader(strings.NewReader("new"), iotest.ErrReader(boom)))
			return err
		},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		require.ErrorIs(t, durable.WriteFile(path, 0o600, write), boom, name)
		require.Empty(t, files(t, dir), name)
		require.NoError(t, durable.WriteFile(path, 0o600, text("old")))
		require.ErrorIs(t, durable.WriteFile(path, 0o600, write), boom, name)
		require.Equal(t, map[string]string{"file": "old"}, files(t, dir), name)
	}
}

func TestWriteFilePanicLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.Panics(t, func() { _ = durable.WriteFile(path, 0o600, func(io.Writer) error { panic("boom") }) })
	require.Empty(t, files(t, dir))
	require.NoError(t, durable.WriteFile(path, 0o600, text("x")))
}

func TestWriteFileWhereItCannot(t *testing.T) {
	dir := t.TempDir()
	require.ErrorIs(t, durable.WriteFile(filepath.Join(dir, "no", "file"), 0o600, text("x")), fs.ErrNotExist)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "full", "of"), 0o700))
	require.Error(t, durable.WriteFile(filepath.Join(dir, "full"), 0o600, text("x")), "it is a directory")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "and no temp file stays")
}

func TestWriteFileDoesNotFollowALink(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("kept"), 0o600))
	path := filepath.Join(dir, "file")
	require.NoError(t, os.Symlink(outside, path))
	require.NoError(t, durable.WriteFile(path, 0o600, text("new")))
	require.Equal(t, map[string]string{"file": "new"}, files(t, dir))
	require.NoError(t, os.Symlink(outside, path+".pgcairn-tmp"))
	require.Error(t, durable.WriteFile(path, 0o600, text("newer")))
	b, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "kept", string(b))
}

func TestWriteFileTwiceAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	err := durable.WriteFile(path, 0o600, func(w io.Writer) error {
		err := durable.WriteFile(path, 0o600, text("the other"))
		require.ErrorContains(t, err, "another process is writing it")
		_, err = io.WriteString(w, "the one")
		return err
	})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"file": "the one"}, files(t, dir))
}

func TestWriteFileByMany(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%08d", i), 10_000) }
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 32 {
		wg.Go(func() {
			for range 10 {
				err := durable.WriteFile(path, 0o600, text(content(i)))
				if err == nil {
					won.Add(1)
				} else if !strings.Contains(err.Error(), "another process is writing it") {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Positive(t, won.Load())
	got := files(t, dir)
	require.Len(t, got, 1)
	require.Len(t, got["file"], 80_000)
	require.Equal(t, strings.Repeat(got["file"][:8], 10_000), got["file"])
}

func TestWriteFileKilled(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, durable.WriteFile(path, 0o600, text("old")))

	c := startChild(t, "hang", path)
	require.Equal(t, "half", c.line(t))
	require.Equal(t, map[string]string{"file": "old", "file.pgcairn-tmp": "half"}, files(t, dir))
	err := durable.WriteFile(path, 0o600, text("new"))
	require.ErrorContains(t, err, "another process is writing it", "it lives")
	require.Equal(t, map[string]string{"file": "old", "file.pgcairn-tmp": "half"}, files(t, dir))

	c.kill()
	require.Equal(t, map[string]string{"file": "old", "file.pgcairn-tmp": "half"}, files(t, dir))
	require.NoError(t, durable.WriteFile(path, 0o600, text("new")))
	require.Equal(t, map[string]string{"file": "new"}, files(t, dir))
}

// A child that writes one version after the other is killed at random moments.
func TestWriteFileKilledAtRandom(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	kills := 25
	if *soak {
		kills = 200
	}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range kills {
		c := startChild(t, "write", path)
		require.Equal(t, "0", c.line(t), "the first write of each child succeeds")
		timer := time.AfterFunc(time.Duration(r.IntN(5000))*time.Microsecond, func() { _ = c.cmd.Process.Kill() })
		out, err := io.ReadAll(c.out)
		timer.Stop()
		require.NoError(t, err)
		c.kill()
		acknowledged := max(0, bytes.Count(out, []byte("\n")))

		got := files(t, dir)
		version := got["file"]
		require.Len(t, version, versionSize, "kill %d", i)
		require.Equal(t, strings.Repeat(version[:8], versionSize/8), version, "kill %d", i)
		var n int
		_, err = fmt.Sscanf(version[:8], "%d", &n)
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, acknowledged, "kill %d", i)
		delete(got, "file")
		delete(got, "file.pgcairn-tmp")
		require.Empty(t, got, "at most one temp file stays")
	}
	require.NoError(t, durable.WriteFile(path, 0o600, text("end")))
	require.Equal(t, map[string]string{"file": "end"}, files(t, dir))
}
