package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
)

// manyEnv is how many files the child process of TestManyFiles has to back up.
const manyEnv = "PGCAIRN_TEST_MANY_FILES"

// manyFiles is a cluster with very many small relations besides its own files, of which every third is empty.
type manyFiles struct {
	*backuptest.Cluster
	n int
}

// Begin implements backup.Source.
func (m manyFiles) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	s, err := m.Cluster.Begin(ctx, o)
	return manySession{s, m.n}, err
}

type manySession struct {
	backup.Session
	n int
}

func (s manySession) Files(ctx context.Context) iter.Seq2[backup.Entry, error] {
	return func(yield func(backup.Entry, error) bool) {
		for e, err := range s.Session.(backup.Lister).Files(ctx) {
			if !yield(e, err) {
				return
			}
		}
		if !yield(backup.Entry{Path: "base/9", Dir: true}, nil) {
			return
		}
		for i := range s.n {
			if !yield(backup.Entry{Path: fmt.Sprintf("base/9/%d", 100_000+i), Size: int64(min(i%3, 1) * 8192)}, nil) {
				return
			}
		}
	}
}

func (s manySession) Open(ctx context.Context, path string) (backup.Content, error) {
	number, ok := strings.CutPrefix(path, "base/9/")
	if !ok {
		return s.Session.Open(ctx, path)
	}
	i, err := strconv.Atoi(number)
	if err != nil || (i-100_000)%3 == 0 {
		return nothing{bytes.NewReader(nil)}, err
	}
	return nothing{bytes.NewReader(backuptest.Pages(0, 1, 1<<16, number))}, nil
}

type nothing struct{ *bytes.Reader }

func (nothing) Close() error { return nil }

var _ io.ReaderAt = nothing{}

// TestManyFiles backs up a cluster of very many files twice, lists and loads it, in a process of its own whose memory is
// measured.
func TestManyFiles(t *testing.T) {
	if text := os.Getenv(manyEnv); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		backUpMany(t, n)
		status, err := os.ReadFile("/proc/self/status")
		require.NoError(t, err)
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		fmt.Println("peak", strings.Fields(peak)[0])
		return
	}
	n := 1_000_000
	if raceDetector || testing.Short() {
		n = 100_000
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestManyFiles$", "-test.v=false")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", manyEnv, n))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, text, found := strings.Cut(string(out), "peak ")
	require.True(t, found, "%s", out)
	peak, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
	require.NoError(t, err)
	t.Logf("%d files: %d MB", n, peak>>10)
	if !raceDetector {
		require.Less(t, peak<<10, int64(500<<20))
	}
}

func backUpMany(t *testing.T, n int) {
	t.Helper()
	store, err := repo.OpenDir(t.TempDir(), nil)
	require.NoError(t, err)
	r := newRepo(t, store, nil)
	c := manyFiles{backuptest.New(nil), n}
	for range 2 {
		m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Auto})
		require.NoError(t, err)
		require.Greater(t, m.Files, n)
	}
	all, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, all, 2)
	m, err := backup.Load(t.Context(), r, all[1].ID)
	require.NoError(t, err)
	require.Equal(t, backup.Incremental, m.Type)
	require.Len(t, m.FileList, all[1].Files)
}
