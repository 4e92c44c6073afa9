package restore_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// What is mounted within a data directory cannot be removed. A restore over that directory says so before it touches
// anything, unless what is mounted stays.
func TestDeltaOverMounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := repo.OpenDir(dir, nil)
	require.NoError(t, err)
	c := backuptest.New(&backuptest.Options{Tablespaces: spaces[:1]})
	f := &fake{store: store, c: c}
	f.repo, err = repo.Init(t.Context(), store, nil)
	require.NoError(t, err)
	f.m, err = backup.Take(t.Context(), f.repo, c, nil)
	require.NoError(t, err)
	c.Switch(1)
	require.NoError(t, f.archive(t))
	for _, tt := range []struct {
		name, path string
		file       bool
		refused    bool
	}{
		{name: "stray", path: "data/stray", refused: true},
		{name: "deep", path: "data/base/stray/d e\\e\tp", refused: true},
		{name: "stray file", path: "data/server.key", file: true, refused: true},
		{name: "pg_control", path: "data/global/pg_control", file: true, refused: true},
		{name: "in a tablespace", path: "fast/stray", refused: true},
		{name: "of another version", path: "fast/PG_13_202000000/5"},
		{name: "lost and found", path: "data/lost+found"},
		{name: "pg_wal", path: "data/pg_wal"},
		{name: "a database", path: "data/base/5"},
		{name: "a file", path: "data/PG_VERSION", file: true},
		{name: "the tablespace", path: "fast"},
		{name: "all", path: "data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			_, err := f.run(t, p, restore.Options{})
			require.NoError(t, err)
			require.NoError(t, os.Remove(filepath.Join(p.data, "postgresql.auto.conf"))) // something is to be done
			point := filepath.Join(filepath.Dir(p.data), tt.path)
			if !tt.file {
				require.NoError(t, os.MkdirAll(point, 0o700))
			} else if _, err := os.Lstat(point); err != nil {
				write(t, point, "x")
			}
			was := p.tree(t)
			out, err := job{Repo: dir, Restore: p.data, Tablespaces: map[string]string{"fast": p.fast}, Delta: true}.withMount(t, point)
			if tt.refused {
				require.Error(t, err)
				require.Contains(t, out, "would have to remove "+point+", where something is mounted")
				requireSame(t, was, p.tree(t))
				return
			}
			require.NoError(t, err, out)
			require.FileExists(t, filepath.Join(p.data, "postgresql.auto.conf"))
			require.NoError(t, c.Compare(p.data))
		})
	}
}

// withMount does a job where a file or a directory is mounted at its own place, and returns what is printed.
func (j job) withMount(t *testing.T, point string) (string, error) {
	t.Helper()
	text, err := json.Marshal(j)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	args := []string{"--mount"}
	if os.Geteuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, "sh", "-c", `mount --bind "$1" "$1" && exec "$2"`, "sh", point, exe)
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
