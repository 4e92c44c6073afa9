package drill_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/stretchr/testify/require"
)

// TestCancelled ends the context in each phase. Neither a process nor a directory is left.
func TestCancelled(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, false)
	for _, c := range []struct {
		name  string
		phase drill.Phase
		when  func(t *testing.T, o *drill.Options, cancel func())
	}{
		{"plan", drill.PhasePlan, at(drill.PhasePlan)},
		{"restore", drill.PhaseRestore, at(drill.PhaseRestore)},
		{"end of restore", drill.PhaseRestore, func(_ *testing.T, o *drill.Options, cancel func()) {
			o.Restore = &restore.Options{Progress: func(p restore.Progress) {
				if p.Phase == "sync" {
					cancel()
				}
			}}
		}},
		{"boot", drill.PhaseRecovery, at(drill.PhaseRecovery)},
		{"recovery", drill.PhaseRecovery, func(t *testing.T, o *drill.Options, cancel func()) {
			// The server waits for a command that does not end, and is ended with it.
			begun := filepath.Join(pgtest.Dir(t), "begun")
			o.Restore = &restore.Options{RestoreCommand: "touch " + begun + "; exec sleep 1000"}
			go func() {
				for ; t.Context().Err() == nil; time.Sleep(10 * time.Millisecond) {
					if _, err := os.Stat(begun); err == nil {
						cancel()
						return
					}
				}
			}()
		}},
		{"check", drill.PhaseCheck, at(drill.PhaseCheck)},
		{"within a check", drill.PhaseCheck, func(_ *testing.T, o *drill.Options, cancel func()) {
			o.Checks = []drill.Check{{Func: func(ctx context.Context, conn *pgx.Conn) error {
				time.AfterFunc(time.Millisecond, cancel)
				_, err := conn.Exec(ctx, `select pg_sleep(1000)`)
				return err
			}}}
		}},
		{"amcheck", drill.PhaseCheck, func(_ *testing.T, o *drill.Options, cancel func()) {
			o.Amcheck = drill.Indexes
			o.Checks = []drill.Check{{Func: func(context.Context, *pgx.Conn) error { cancel(); return nil }}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := s.options(t)
			c.when(t, o, cancel)
			r, err := drill.Run(ctx, s.r, restore.Latest(), o)
			requireReport(t, r, err)
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, c.phase, r.Phase)
			requireNothing(t, o.Dir)
		})
	}
}

// at ends the context when a phase begins.
func at(phase drill.Phase) func(*testing.T, *drill.Options, func()) {
	return func(_ *testing.T, o *drill.Options, cancel func()) {
		o.Began = func(p drill.Phase) {
			if p == phase {
				cancel()
			}
		}
	}
}

// A check that panics takes its drill down with it.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, false)
	o := s.options(t)
	o.Checks = []drill.Check{{Func: func(context.Context, *pgx.Conn) error {
		require.DirExists(t, o.Dir)
		require.NotEmpty(t, processes(t, o.Dir))
		panic("the check's own")
	}}}
	require.PanicsWithValue(t, "the check's own", func() { _, _ = drill.Run(t.Context(), s.r, restore.Latest(), o) })
	requireNothing(t, o.Dir)
}

// One directory is for one drill at a time, and for what drills make only.
func TestDirectory(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, false)
	base := pgtest.Dir(t)
	in := func(t *testing.T, dir string) *drill.Options {
		t.Helper()
		o := s.options(t)
		o.Dir = dir
		return o
	}
	t.Run("busy", func(t *testing.T) {
		o := s.options(t)
		o.Checks = []drill.Check{{Func: func(ctx context.Context, conn *pgx.Conn) error {
			other := *o
			other.Checks = nil
			r, err := drill.Run(ctx, s.r, restore.Latest(), &other)
			requireReport(t, r, err)
			var busy *drill.BusyError
			require.ErrorAs(t, err, &busy)
			require.Equal(t, drill.BusyError{Directory: o.Dir}, *busy)
			return conn.Ping(ctx)
		}}}
		_, err := s.run(t, restore.Latest(), o)
		require.NoError(t, err)
	})
	t.Run("others' files", func(t *testing.T) {
		for _, name := range []string{"precious", "data"} { // the latter without a drill's mark
			dir := filepath.Join(base, "occupied", name)
			require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
			_, err := drill.Run(t.Context(), s.r, restore.Latest(), in(t, dir))
			require.True(t, is[*restore.NotEmptyError](err), "%v", err)
			require.DirExists(t, filepath.Join(dir, name))
			require.NoFileExists(t, filepath.Join(dir, "pgcairn.drill"))
		}
		_, err := drill.Run(t.Context(), s.r, restore.Latest(), in(t, filepath.Join(base, "occupied", "x", "y")))
		require.NoError(t, err, "it is made, with those above it")
	})
	t.Run("is there already", func(t *testing.T) {
		dir := filepath.Join(base, "empty")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "lost+found"), 0o755))
		_, err := drill.Run(t.Context(), s.r, restore.Latest(), in(t, dir))
		require.NoError(t, err)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1, "the directory was there before, so it stays")
	})
	t.Run("long path", func(t *testing.T) {
		dir := filepath.Join(base, strings.Repeat("long", 30), `with "quotes", commas and spaces`)
		_, err := s.run(t, restore.Latest(), in(t, dir))
		require.NoError(t, err)
	})
	t.Run("none given", func(t *testing.T) {
		t.Parallel()
		var where string
		o := in(t, "")
		o.Checks = []drill.Check{{Func: func(ctx context.Context, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `show data_directory`).Scan(&where)
		}}}
		r, err := drill.Run(t.Context(), s.r, restore.Latest(), o)
		requireReport(t, r, err)
		require.NoError(t, err)
		requireNothing(t, filepath.Dir(where))
	})
}

// childEnv makes this test binary one who drills until it is killed.
const childEnv = "PGCAIRN_TEST_DRILL_CHILD"

// childOrder is what childEnv holds.
type childOrder struct {
	Store, Phase, Dir, BinDir, User string
}

func TestChild(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var order childOrder
	require.NoError(t, json.Unmarshal([]byte(text), &order))
	store, err := repo.OpenDir(order.Store, nil)
	require.NoError(t, err)
	r, err := repo.Open(t.Context(), store, nil)
	require.NoError(t, err)
	wait := func() {
		fmt.Println("there")
		select {}
	}
	o := &drill.Options{Dir: order.Dir, BinDir: order.BinDir, User: order.User}
	switch order.Phase {
	case "restore":
		o.Restore = &restore.Options{Progress: func(p restore.Progress) {
			if p.Phase == "sync" {
				wait()
			}
		}}
	case "check":
		o.Checks = []drill.Check{{Func: func(context.Context, *pgx.Conn) error { wait(); return nil }}}
	}
	_, err = drill.Run(t.Context(), r, restore.Latest(), o)
	t.Fatal(err)
}

// TestKilled kills one who drills, with SIGKILL. The next drill in its directory waits for the server to be gone, clears
// what is left, and leaves nothing.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, false)
	for _, phase := range []string{"restore", "check"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			o := s.options(t)
			text, err := json.Marshal(childOrder{Store: s.store, Phase: phase, Dir: o.Dir, BinDir: o.BinDir, User: o.User})
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
			cmd.Env = append(os.Environ(), childEnv+"="+string(text))
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			cmd.Stderr = os.Stderr
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "there\n", line)
			require.Equal(t, phase == "check", len(processes(t, filepath.Join(o.Dir, "data"))) > 0)
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			require.DirExists(t, o.Dir)
			_, err = s.run(t, restore.Latest(), o)
			require.NoError(t, err)
		})
	}
}

// A server that lives on, as it may where the kernel does not end it, is not touched.
func TestOrphan(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, false)
	o := s.options(t)
	require.NoError(t, os.MkdirAll(filepath.Join(o.Dir, "data"), 0o755))
	mark, err := os.OpenFile(filepath.Join(o.Dir, "pgcairn.drill"), os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "data", "postmaster.pid"), []byte("4711\n/data\n"), 0o600))
	cmd := exec.CommandContext(t.Context(), "flock", "--exclusive", "3")
	cmd.ExtraFiles = []*os.File{mark}
	require.NoError(t, cmd.Run(), "the lock is that of the open file, which this process has as well")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Logger = pgtest.OnLog("waiting for the server", cancel)
	_, err = drill.Run(ctx, s.r, restore.Latest(), o)
	require.ErrorIs(t, err, context.Canceled, "it waits")
	require.FileExists(t, filepath.Join(o.Dir, "data", "postmaster.pid"))
	require.NoError(t, mark.Close())
	_, err = drill.Run(t.Context(), s.r, restore.Latest(), o)
	require.NoError(t, err)
	require.Empty(t, processes(t, o.Dir))
}
