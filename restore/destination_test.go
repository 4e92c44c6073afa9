package restore_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

var spaces = []backup.Tablespace{{OID: 16385, Name: "fast", Location: "/mnt/fast"}, {OID: 16390, Name: "big one", Location: "/mnt/big"}}

func TestRunTellsWhatItDid(t *testing.T) {
	t.Parallel()
	f := newFake(t, true, nil)
	p := f.plan(t)
	dir := newDir(t)
	var phases []string
	var last restore.Progress
	done := false
	result, err := p.Run(t.Context(), f.repo, dir, &restore.Options{Progress: func(g restore.Progress) {
		require.False(t, done)
		phases, last = append(phases, g.Phase), g
		requireNoCluster(t, dir)
	}})
	done = true
	require.NoError(t, err)
	require.NoError(t, f.c.Compare(dir))
	require.Equal(t, "sync", phases[len(phases)-1])
	require.Same(t, p, result.Plan)
	require.Equal(t, dir, result.Directory)
	require.Equal(t, 2, result.Segments)
	require.Positive(t, result.Took)
	require.Equal(t, restore.Progress{Phase: "sync", RestoredBytes: result.RestoredBytes, TotalBytes: result.RestoredBytes, Segments: 2, TotalSegments: 2}, last)
	got, err := json.Marshal(result)
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(got, &doc))
	require.Equal(t, dir, doc["directory"])
	require.Contains(t, doc, "duration_seconds")

	control, err := os.ReadFile(filepath.Join(dir, "global/pg_control"))
	require.NoError(t, err)
	require.Equal(t, f.m.Control, control)
	for name, want := range map[string]string{"backup_label": f.m.Label, "recovery.signal": ""} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
	for _, name := range []string{"000000010000000000000001", "000000010000000000000002"} {
		b, err := os.ReadFile(filepath.Join(dir, "pg_wal", name))
		require.NoError(t, err)
		want, err := f.c.WAL(name)
		require.NoError(t, err)
		require.Equal(t, want, b)
	}
	_, err = os.Lstat(filepath.Join(dir, "pgcairn.restore"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// What is restored is private to the user that runs PostgreSQL, whatever umask and parents allow.
func TestPermissions(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces})
	base := t.TempDir()
	dir := filepath.Join(base, "a", "b", "data")
	existing := filepath.Join(base, "existing")
	for _, open := range []string{existing, dir} {
		require.NoError(t, os.MkdirAll(open, 0o777))
		require.NoError(t, os.Chmod(open, 0o777))
	}
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{
		Tablespaces: map[string]string{"fast": existing, "16390": filepath.Join(base, "new")},
	})
	require.NoError(t, err)
	require.NoError(t, f.c.Compare(dir))
	for _, root := range []string{dir, existing, filepath.Join(base, "new")} {
		require.NoError(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := e.Info()
			require.NoError(t, err)
			switch {
			case e.IsDir():
				require.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), p)
			case e.Type().IsRegular():
				require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), p)
			default:
				require.Equal(t, fs.ModeSymlink, e.Type(), p)
				require.Equal(t, filepath.Join(dir, "pg_tblspc"), filepath.Dir(p))
			}
			return nil
		}))
	}
	link, err := os.Readlink(filepath.Join(dir, "pg_tblspc/16385"))
	require.NoError(t, err)
	require.Equal(t, existing, link)
}

func TestWhereARestoreMayGo(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	fill := func(t *testing.T, dir string, files ...string) {
		t.Helper()
		for _, name := range files {
			p := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
			require.NoError(t, os.WriteFile(p, []byte("{}"), 0o600))
		}
	}
	tests := []struct {
		name  string
		files []string
		fine  bool
	}{
		{"an empty directory", nil, true},
		{"a new file system", []string{"lost+found/x"}, true},
		{"a file", []string{"x"}, false},
		{"a hidden file", []string{".x"}, false},
		{"a directory", []string{"x/y"}, false},
		{"a cluster", []string{"PG_VERSION", "global/pg_control"}, false},
		{"a mark alone, of a restore that did not get far", []string{"pgcairn.restore"}, true},
		{"a cluster with a mark", []string{"PG_VERSION", "global/pg_control", "pgcairn.restore"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fill(t, dir, tt.files...)
			was := tree(t, dir)
			_, err := f.plan(t).Run(t.Context(), f.repo, dir, nil)
			if tt.fine {
				require.NoError(t, err)
				_ = os.RemoveAll(filepath.Join(dir, "lost+found"))
				require.NoError(t, f.c.Compare(dir))
				return
			}
			var full *restore.NotEmptyError
			require.ErrorAs(t, err, &full)
			require.Equal(t, dir, full.Directory)
			require.Equal(t, was, tree(t, dir), "it is left as it was")
		})
	}
	t.Run("a file in the way", func(t *testing.T) {
		t.Parallel()
		dir := newDir(t)
		require.NoError(t, os.WriteFile(dir, nil, 0o600))
		_, err := f.plan(t).Run(t.Context(), f.repo, dir, nil)
		require.ErrorContains(t, err, "not a directory")
	})
	t.Run("its own result", func(t *testing.T) {
		t.Parallel()
		dir := newDir(t)
		_, err := f.plan(t).Run(t.Context(), f.repo, dir, nil)
		require.NoError(t, err)
		was := tree(t, dir)
		_, err = f.plan(t).Run(t.Context(), f.repo, dir, nil)
		require.True(t, is[*restore.NotEmptyError](err))
		require.Equal(t, was, tree(t, dir))
	})
}

func TestWhereTablespacesMayGo(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces})
	base := t.TempDir()
	in := func(p string) string { return filepath.Join(base, p) }
	require.NoError(t, os.MkdirAll(in("full/x"), 0o700))
	tests := []struct {
		name    string
		mapping map[string]string
		want    *restore.TablespaceError
		says    string
	}{
		{"by name", map[string]string{"fast": in("1/fast"), "big one": in("1/big")}, nil, ""},
		{"by OID", map[string]string{"16385": in("2/fast"), "16390": in("2/big")}, nil, ""},
		{
			"none is given", nil, &restore.TablespaceError{Name: "fast", OID: 16385, Location: "/mnt/fast"},
			`restore: tablespace "fast" (OID 16385), once at /mnt/fast, needs a directory to be restored to`,
		},
		{"one is missing", map[string]string{"fast": in("3")}, &restore.TablespaceError{Name: "big one", OID: 16390, Location: "/mnt/big"}, "needs a directory"},
		{
			"unknown",
			map[string]string{"fast": in("3"), "16390": in("4"), "other": in("5")},
			&restore.TablespaceError{Name: "other"},
			`restore: the backup has no tablespace "other"`,
		},
		{"twice", map[string]string{"fast": in("3"), "16385": in("4"), "16390": in("5")}, &restore.TablespaceError{Name: "16385"}, "no tablespace"},
		{"the same place", map[string]string{"fast": in("3"), "16390": in("3/")}, nil, "not beside each other"},
		{"one in another", map[string]string{"fast": in("3"), "16390": in("3/x")}, nil, "not beside each other"},
		{"another in one", map[string]string{"fast": in("3/x"), "16390": in("3")}, nil, "not beside each other"},
		{"the data directory", map[string]string{"fast": in("data"), "16390": in("3")}, nil, "not beside each other"},
		{"in the data directory", map[string]string{"fast": in("data/pg_tblspc/x"), "16390": in("3")}, nil, "not beside each other"},
		{"around the data directory", map[string]string{"fast": base, "16390": in("3")}, nil, "not beside each other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := in("data")
			_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Tablespaces: tt.mapping})
			if tt.says == "" {
				require.NoError(t, err)
				require.NoError(t, f.c.Compare(dir))
				require.NoError(t, os.RemoveAll(dir))
				return
			}
			var space *restore.TablespaceError
			require.ErrorAs(t, err, &space)
			require.ErrorContains(t, err, tt.says)
			if tt.want != nil {
				require.Equal(t, tt.want, space)
			}
			_, err = os.Lstat(dir)
			require.ErrorIs(t, err, fs.ErrNotExist, "nothing was made")
		})
	}
	t.Run("not empty", func(t *testing.T) {
		_, err := f.plan(t).Run(t.Context(), f.repo, in("data"), &restore.Options{Tablespaces: map[string]string{"fast": in("full"), "16390": in("6")}})
		var full *restore.NotEmptyError
		require.ErrorAs(t, err, &full)
		require.Equal(t, in("full"), full.Directory)
		require.DirExists(t, in("full/x"))
	})
}

// A restore that was cut short leaves nothing that boots, and the next clears up after it.
func TestRunAfterOneThatWasCutShort(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces})
	base := t.TempDir()
	dir := filepath.Join(base, "data")
	o := &restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(base, "fast"), "big one": filepath.Join(base, "big")}}
	ctx, cancel := context.WithCancel(t.Context())
	cut := *o
	cut.Progress = func(p restore.Progress) {
		if p.Phase == "sync" {
			cancel()
		}
	}
	_, err := f.plan(t).Run(ctx, f.repo, dir, &cut)
	require.ErrorIs(t, err, context.Canceled)
	requireNoCluster(t, dir)

	t.Run("elsewhere with a tablespace", func(t *testing.T) {
		other := &restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(base, "fast"), "big one": filepath.Join(base, "other")}}
		_, err := f.plan(t).Run(t.Context(), f.repo, filepath.Join(base, "data2"), other)
		var full *restore.NotEmptyError
		require.ErrorAs(t, err, &full, "only the directory with the mark may be cleared")
		require.Equal(t, filepath.Join(base, "fast"), full.Directory)
	})
	t.Run("with a tablespace elsewhere", func(t *testing.T) {
		full := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(full, "precious"), nil, 0o600))
		_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Tablespaces: map[string]string{"fast": full, "big one": filepath.Join(base, "big")}})
		require.True(t, is[*restore.NotEmptyError](err), "%v", err)
		require.FileExists(t, filepath.Join(full, "precious"))
	})
	t.Run("again", func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "base", "leftover"), []byte("x"), 0o600))
		_, err := f.plan(t).Run(t.Context(), f.repo, dir, o)
		require.NoError(t, err)
		require.NoError(t, f.c.Compare(dir))
	})
	t.Run("at the very end", func(t *testing.T) {
		// Killed between making pg_control visible and removing the mark.
		mark, err := json.Marshal(map[string]any{"backup": f.m.ID, "control": sha256.Sum256(f.m.Control), "tablespaces": map[string]string{
			"16385": filepath.Join(base, "fast"), "16390": filepath.Join(base, "big"),
		}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "pgcairn.restore"), mark, 0o600))

		// A server that has been started since must not lose anything.
		pid := filepath.Join(dir, "postmaster.pid")
		require.NoError(t, os.WriteFile(pid, nil, 0o600))
		_, err = f.plan(t).Run(t.Context(), f.repo, dir, o)
		require.True(t, is[*restore.NotEmptyError](err), "%v", err)
		require.NoError(t, os.Remove(pid))
		control := filepath.Join(dir, "global/pg_control")
		require.NoError(t, os.WriteFile(control, []byte("another checkpoint"), 0o600))
		_, err = f.plan(t).Run(t.Context(), f.repo, dir, o)
		require.True(t, is[*restore.NotEmptyError](err), "%v", err)

		require.NoError(t, os.WriteFile(control, f.m.Control, 0o600))
		_, err = f.plan(t).Run(t.Context(), f.repo, dir, o)
		require.NoError(t, err)
		require.NoError(t, f.c.Compare(dir))
	})
}

// Two restores into one directory would each take what the other writes for leftovers.
func TestTwoRestoresIntoOneDirectory(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Tablespaces: spaces[:1]})
	base := t.TempDir()
	dir := filepath.Join(base, "data")
	o := restore.Options{Tablespaces: map[string]string{"fast": filepath.Join(base, "fast")}}
	first := o
	tried := false
	first.Progress = func(p restore.Progress) {
		if tried {
			return
		}
		tried = true
		for _, d := range []string{dir, filepath.Join(base, "data2")} {
			_, err := f.plan(t).Run(t.Context(), f.repo, d, &o)
			require.True(t, is[*restore.BusyError](err), "%v", err)
		}
	}
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &first)
	require.NoError(t, err)
	require.True(t, tried)
	require.NoError(t, f.c.Compare(dir))
}

func TestSettings(t *testing.T) {
	t.Parallel()
	const stale = `# the operator's
work_mem = '4MB'
recovery_target_time = '2020-01-01'
  Recovery_Target_Name	'x'
restore_command='cp /old/%f %p'
recovery_target'immediate'
recovery_target_xid=5 # why
primary_conninfo	= 'host=old'
recovery_min_apply_delay = 1h
recovery_targets = 'no such setting'
# recovery_target_lsn = '0/1'
shared_buffers = '128MB'`
	tests := []struct {
		name   string
		target restore.Target
		o      restore.Options
		want   []string
	}{
		{"latest", restore.Latest(), restore.Options{}, []string{
			"restore_command = 'false'", "recovery_target_inclusive = 'on'", "recovery_target_action = 'promote'", "recovery_target_timeline = '1'",
			"recovery_end_command = ''", "archive_cleanup_command = ''", "recovery_min_apply_delay = '0'", "archive_mode = 'off'",
		}},
		{"immediate, pause", restore.Immediate(), restore.Options{Action: restore.Pause}, []string{
			"restore_command = 'false'", "recovery_target = 'immediate'", "recovery_target_inclusive = 'on'", "recovery_target_action = 'pause'",
			"recovery_target_timeline = '1'", "recovery_end_command = ''", "archive_cleanup_command = ''", "recovery_min_apply_delay = '0'", "archive_mode = 'off'",
		}},
		{"position, exclusive, by command, archiving", restore.AtLSN(0x110000).Before(), restore.Options{RestoreCommand: `fetch 'a\b' %f "%p"`, KeepArchiving: true}, []string{
			`restore_command = 'fetch ''a\\b'' %f "%p"'`, "recovery_target_lsn = '0/110000'", "recovery_target_inclusive = 'off'", "recovery_target_action = 'promote'",
			"recovery_target_timeline = '1'", "recovery_end_command = ''", "archive_cleanup_command = ''", "recovery_min_apply_delay = '0'",
		}},
		{"name with everything in it", restore.AtName("it's\\ \"n\"\nrecovery_target = 'x'\r#"), restore.Options{Action: restore.Shutdown}, []string{
			"restore_command = 'false'", `recovery_target_name = 'it''s\\ "n"\nrecovery_target = ''x''\r#'`, "recovery_target_inclusive = 'on'", "recovery_target_action = 'shutdown'",
			"recovery_target_timeline = '1'", "recovery_end_command = ''", "archive_cleanup_command = ''", "recovery_min_apply_delay = '0'", "archive_mode = 'off'",
		}},
		{"transaction", restore.AtXID(1 << 33), restore.Options{}, []string{
			"restore_command = 'false'", "recovery_target_xid = '8589934592'", "recovery_target_inclusive = 'on'", "recovery_target_action = 'promote'",
			"recovery_target_timeline = '1'", "recovery_end_command = ''", "archive_cleanup_command = ''", "recovery_min_apply_delay = '0'", "archive_mode = 'off'",
		}},
		{"time", restore.AtTime(minute(15).AddDate(1, 0, 0)), restore.Options{}, []string{
			"restore_command = 'false'", "recovery_target_time = '2027-11-21 10:15:00.000000+00'", "recovery_target_inclusive = 'on'", "recovery_target_action = 'promote'",
			"recovery_target_timeline = '1'", "recovery_end_command = ''", "archive_cleanup_command = ''", "recovery_min_apply_delay = '0'", "archive_mode = 'off'",
		}},
	}
	f := newFake(t, false, &backuptest.Options{Files: fstest.MapFS{
		"postgresql.conf": {Data: []byte(stale)}, "postgresql.auto.conf": {Data: []byte(stale)},
	}})
	cleared := `# the operator's
work_mem = '4MB'
# pgcairn: recovery_target_time = '2020-01-01'
# pgcairn:   Recovery_Target_Name	'x'
# pgcairn: restore_command='cp /old/%f %p'
# pgcairn: recovery_target'immediate'
# pgcairn: recovery_target_xid=5 # why
# pgcairn: primary_conninfo	= 'host=old'
# pgcairn: recovery_min_apply_delay = 1h
recovery_targets = 'no such setting'
# recovery_target_lsn = '0/1'
shared_buffers = '128MB'`
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := tt.target
			switch to.Kind {
			case restore.KindName, restore.KindXID, restore.KindTime: // which the fake cluster's WAL has nothing of
				to = restore.Latest()
			}
			p, err := restore.Prepare(t.Context(), f.repo, to, nil)
			require.NoError(t, err)
			p.Target = tt.target
			dir := newDir(t)
			_, err = p.Run(t.Context(), f.repo, dir, &tt.o)
			require.NoError(t, err)
			conf, err := os.ReadFile(filepath.Join(dir, "postgresql.conf"))
			require.NoError(t, err)
			require.Equal(t, cleared, string(conf))
			auto, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
			require.NoError(t, err)
			rest, ok := strings.CutPrefix(string(auto), cleared+"\n# written by pgcairn to recover "+tt.target.String()+"\n")
			require.True(t, ok, "%s", auto)
			require.Equal(t, strings.Join(tt.want, "\n")+"\n", rest)
			staged, err := os.ReadDir(filepath.Join(dir, "pg_wal"))
			require.NoError(t, err)
			require.Equal(t, tt.o.RestoreCommand != "", len(staged) == 1, "either WAL is staged, besides archive_status, or there is a command")
		})
	}
}

// Where the backup has no configuration files, as on Debian, none is needed.
func TestSettingsWithoutConfigurationFiles(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, &backuptest.Options{Files: fstest.MapFS{"PG_VERSION": {Data: []byte("18\n")}}})
	dir := newDir(t)
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, nil)
	require.NoError(t, err)
	_, err = os.Lstat(filepath.Join(dir, "postgresql.conf"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	auto, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(auto), "# written by pgcairn"))
}

// The history of the backup's own timeline is not needed to stay on it.
func TestTimelineSetting(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		f := newFake(t, false, nil)
		f.c.Promote()
		m, err := backup.Take(t.Context(), f.repo, f.c, nil)
		require.NoError(t, err)
		want := "2"
		if lost {
			require.NoError(t, f.store.Delete(t.Context(), fmt.Sprintf("wal/%d/00000002.history", f.c.System().ID)))
			want = "current"
		}
		dir := newDir(t)
		p := f.plan(t)
		require.Equal(t, m.ID, p.Backup.ID)
		_, err = p.Run(t.Context(), f.repo, dir, nil)
		require.NoError(t, err)
		auto, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
		require.NoError(t, err)
		require.Contains(t, string(auto), "\nrecovery_target_timeline = '"+want+"'\n")
	}
}

func TestRunRefusesOptions(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	dir := newDir(t)
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, &restore.Options{Action: "dance"})
	require.ErrorContains(t, err, `unknown action "dance"`)
	require.NoDirExists(t, dir)
}

// A plan of a backup that is gone by then is an answer, unlike one whose content is gone.
func TestRunOfWhatIsGone(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"backups/", "packs/", "wal/"} {
		f := newFake(t, false, nil)
		p := f.plan(t)
		for _, key := range keys(t, f.store, kind) {
			require.NoError(t, f.store.Delete(t.Context(), key))
		}
		dir := newDir(t)
		_, err := p.Run(t.Context(), f.repo, dir, nil)
		require.Error(t, err)
		if kind == "backups/" {
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.ErrorContains(t, err, string(f.m.ID))
			require.NoDirExists(t, dir)
			continue
		}
		requireNoAnswer(t, err)
		require.ErrorContains(t, err, strings.TrimSuffix(kind, "/"))
		requireNoCluster(t, dir)
	}
}
