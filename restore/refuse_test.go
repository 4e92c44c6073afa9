package restore_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// Links that lie in a data directory, wherever they lead, are replaced and not followed. Nor are files written in place
// that have another name elsewhere.
func TestDeltaFollowsNoLinks(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	fresh := newPlace(t)
	_, err := f.run(t, fresh, restore.Options{})
	require.NoError(t, err)
	want := fresh.tree(t)

	for i, name := range []string{
		"base/5/16384", "base/5/16390", "base/5", "base", "global", "global/pg_control", "global/1262", "pg_wal", "pg_wal/archive_status",
		"pg_wal/000000010000000000000001", "pg_tblspc", "pg_tblspc/16385", "pg_tblspc/16385/PG_18_202600000", "pg_tblspc/16385/PG_18_202600000/5/16400",
		"PG_VERSION", "postgresql.auto.conf", "backup_label", "recovery.signal", "pgcairn.restore.tmp", "stray",
	} {
		kinds := []string{"absolute", "relative", "within", "dangling"}
		for _, kind := range []string{kinds[i%4], kinds[(i+1)%4], "hard"} {
			if i, err := os.Stat(filepath.Join(fresh.data, name)); kind == "hard" && (err != nil || !i.Mode().IsRegular()) {
				continue
			}
			p := newPlace(t)
			_, err := f.run(t, p, restore.Options{})
			require.NoError(t, err)
			path := filepath.Join(p.data, name)
			outside := filepath.Join(filepath.Dir(p.data), "outside")
			if _, err := os.Stat(path); err == nil {
				require.NoError(t, os.Rename(path, outside))
				if name == "pg_tblspc/16385" { // the link itself
					require.NoError(t, os.Remove(outside))
				}
			}
			if _, err := os.Stat(outside); err != nil {
				write(t, filepath.Join(outside, "precious"), "x")
			}
			info, err := os.Stat(outside)
			require.NoError(t, err)
			target := outside
			switch kind {
			case "relative":
				target, err = filepath.Rel(filepath.Dir(path), outside)
				require.NoError(t, err)
			case "within":
				target = filepath.Join(p.data, "within")
				require.NoError(t, os.Rename(outside, target))
			case "dangling":
				target = filepath.Join(filepath.Dir(p.data), "nowhere")
			}
			if kind == "hard" {
				require.NoError(t, os.Link(outside, path))
			} else {
				require.NoError(t, os.Symlink(target, path))
			}
			if info.Mode().IsRegular() && kind != "within" {
				require.NoError(t, os.WriteFile(outside, []byte("precious"), 0o644))
			}
			var was []string
			if kind != "within" {
				was = tree(t, outside)
			}
			at := name + ", " + kind
			// What a server would read through a link is not always enough to know the cluster by.
			result, err := f.run(t, p, restore.Options{Delta: true, Overwrite: true})
			require.NoError(t, err, at)
			require.Positive(t, result.RestoredBytes+result.ReusedBytes)
			requireSame(t, want, p.tree(t), at)
			if kind != "within" {
				require.Equal(t, was, tree(t, outside), at)
				require.NoFileExists(t, filepath.Join(filepath.Dir(p.data), "nowhere"), at)
			}
		}
	}
}

// A directory that may be needed is left as it is.
func TestDeltaRefuses(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	other := newFake(t, false, &backuptest.Options{SystemID: 4711, Tablespaces: spaces[:1]})
	mine := func(t *testing.T, p place) {
		t.Helper()
		_, err := f.run(t, p, restore.Options{})
		require.NoError(t, err)
	}
	sleeper := exec.Command("sleep", "600")
	running := func(pid func() int, more string) func(*testing.T, place) {
		return func(t *testing.T, p place) {
			t.Helper()
			mine(t, p)
			write(t, filepath.Join(p.data, "postmaster.pid"), fmt.Sprintf("%d\n%s", pid(), more))
		}
	}
	foreign := func(id uint64) func(error) bool {
		return func(err error) bool {
			var e *restore.ForeignError
			return errors.As(err, &e) && e.SystemID == id && e.Backup == f.m.SystemID
		}
	}
	tests := []struct {
		name      string
		fill      func(t *testing.T, p place)
		refused   func(error) bool
		overwrite bool // helps
	}{
		{"another cluster", func(t *testing.T, p place) {
			_, err := other.run(t, p, restore.Options{})
			require.NoError(t, err)
		}, foreign(4711), true},
		{"no data directory", func(t *testing.T, p place) { write(t, filepath.Join(p.data, "thesis.txt"), "x") }, foreign(0), true},
		{"without PG_VERSION", func(t *testing.T, p place) {
			mine(t, p)
			require.NoError(t, os.Remove(filepath.Join(p.data, "PG_VERSION")))
		}, foreign(0), true},
		{"without pg_control", func(t *testing.T, p place) {
			mine(t, p)
			require.NoError(t, os.Remove(filepath.Join(p.data, "global/pg_control")))
		}, foreign(0), true},
		{"with a damaged pg_control", func(t *testing.T, p place) {
			mine(t, p)
			overwrite(t, filepath.Join(p.data, "global/pg_control"), 100, []byte("damage"))
		}, foreign(0), true},
		{"with a repository in it", func(t *testing.T, p place) {
			mine(t, p)
			write(t, filepath.Join(p.data, "deep/inside/pgcairn.json"), "{}")
		}, is[*restore.RepositoryError], false},
		{"a tablespace with a repository in it", func(t *testing.T, p place) {
			mine(t, p)
			write(t, filepath.Join(p.fast, "pgcairn.json"), "{}")
		}, is[*restore.RepositoryError], false},
		{"a tablespace of somebody else", func(t *testing.T, p place) {
			mine(t, place{p.data, p.fast + "2"})
			write(t, filepath.Join(p.fast, "PG_18_202600000/5/16400"), "x")
		}, is[*restore.NotEmptyError], true},
		{"a tablespace without its data directory", func(t *testing.T, p place) {
			mine(t, p)
			require.NoError(t, os.RemoveAll(p.data))
		}, is[*restore.NotEmptyError], true},
		{"a data directory in place of a tablespace, with a server", func(t *testing.T, p place) {
			mine(t, place{p.data, p.fast + "2"})
			write(t, filepath.Join(p.fast, "PG_VERSION"), "18")
			write(t, filepath.Join(p.fast, "postmaster.pid"), "") // it is beginning
		}, is[*restore.NotEmptyError], false},
		{"with a damaged mark", func(t *testing.T, p place) {
			mine(t, p)
			write(t, filepath.Join(p.data, "pgcairn.restore"), "damage")
		}, nil, true},
		{"a damaged mark, half-done", func(t *testing.T, p place) {
			mine(t, p)
			write(t, filepath.Join(p.data, "pgcairn.restore"), "")
			require.NoError(t, os.Remove(filepath.Join(p.data, "global/pg_control")))
		}, foreign(0), true},
		{"a server", running(func() int { return sleeper.Process.Pid }, ""), is[*restore.RunningError], false},
		{"this process", running(os.Getpid, "/somewhere\n1\n"), nil, true}, // which works elsewhere
		{"a server that is beginning", func(t *testing.T, p place) {
			mine(t, p)
			write(t, filepath.Join(p.data, "postmaster.pid"), "")
		}, is[*restore.RunningError], false},
		{"a server that is gone", running(func() int { return 1 << 29 }, ""), nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			if tt.name == "a server" {
				require.NoError(t, os.MkdirAll(p.data, 0o700))
				sleeper.Dir = p.data // as servers do
				require.NoError(t, sleeper.Start())
				defer func() {
					require.NoError(t, sleeper.Process.Kill())
					_ = sleeper.Wait()
				}()
			}
			tt.fill(t, p)
			require.NoError(t, os.MkdirAll(p.data, 0o755))
			require.NoError(t, os.MkdirAll(p.fast, 0o755))
			was := p.tree(t)
			_, err := f.run(t, p, restore.Options{})
			require.True(t, is[*restore.NotEmptyError](err), "%v", err)
			requireSame(t, was, p.tree(t))
			_, err = f.run(t, p, restore.Options{Overwrite: true})
			require.ErrorContains(t, err, "Overwrite is for Delta")

			_, err = f.run(t, p, restore.Options{Delta: true})
			if tt.refused != nil {
				require.True(t, tt.refused(err), "%v", err)
				requireSame(t, was, p.tree(t))
			} else {
				require.NoError(t, err)
			}
			_, err = f.run(t, p, restore.Options{Delta: true, Overwrite: true})
			if tt.overwrite {
				require.NoError(t, err)
				require.NoError(t, f.c.Compare(p.data))
			} else {
				require.True(t, tt.refused(err) || is[*restore.RunningError](err), "%v", err)
				requireSame(t, was, p.tree(t))
			}
		})
	}
}

// A server of a container has an id of the container's in its lock file: that of no process here, or of another one.
func TestDeltaRefusesAServerOfAContainer(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	p := newPlace(t)
	_, err := f.run(t, p, restore.Options{})
	require.NoError(t, err)
	write(t, filepath.Join(p.data, "postmaster.pid"), fmt.Sprintf("%d\n/var/lib/postgresql/data\n", 1<<29))
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	postgres := filepath.Join(t.TempDir(), "postgres")
	require.NoError(t, os.Symlink(sleep, postgres))
	server := exec.Command(postgres, "600")
	server.Args[0] = "sleep" // which program it is, where one is many
	server.Dir = p.data
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill() }) // once more does nothing
	was := p.tree(t)
	_, err = f.run(t, p, restore.Options{Delta: true, Overwrite: true})
	var running *restore.RunningError
	require.ErrorAs(t, err, &running)
	require.Equal(t, server.Process.Pid, running.PID)
	requireSame(t, was, p.tree(t))

	require.NoError(t, server.Process.Kill())
	_ = server.Wait()
	_, err = f.run(t, p, restore.Options{Delta: true})
	require.NoError(t, err)
	require.NoError(t, f.c.Compare(p.data))
}
