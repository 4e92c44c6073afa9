package drill_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/stretchr/testify/require"
)

// TestRefuses asks for what cannot be. That is known before anything is fetched.
func TestRefuses(t *testing.T) {
	t.Parallel()
	r := exampleRepo() // of a cluster that nobody could boot
	plan, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.NoError(t, err)
	major := plan.Backup.PGVersion / 10000
	other := pgtest.BinDir(t, pgtest.Majors()[0])
	require.NotEqual(t, pgtest.Majors()[0], major)
	ping := func(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) }
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, "postgres"), []byte("#!/bin/sh\necho PostgreSQL of sorts\n"), 0o755))
	for _, w := range []struct {
		name    string
		options drill.Options
		is      func(error) bool
		problem string
	}{
		{"another major version", drill.Options{BinDir: other}, is[*drill.BinaryError], "needs PostgreSQL " + strconv.Itoa(major) + ", and there is: in " + other + " PostgreSQL 13."},
		{"no programs", drill.Options{BinDir: broken + "/none"}, is[*drill.BinaryError], "no postgres"},
		{"other programs", drill.Options{BinDir: broken}, is[*drill.BinaryError], "a postgres that calls itself"},
		{"no pg_checksums", drill.Options{BinDir: pgtest.BinDir(t, major), Checksums: true}, is[*drill.BinaryError], "no pg_checksums"},
		{"no such user", drill.Options{User: "no such user"}, is[*drill.UserError], "no such user"},
		{"root", drill.Options{User: "root"}, is[*drill.UserError], "does not run as root"},
		{"tablespaces", drill.Options{Restore: &restore.Options{Tablespaces: map[string]string{"a": "/b"}}}, nil, "Tablespaces"},
		{"archiving", drill.Options{Restore: &restore.Options{KeepArchiving: true}}, nil, "KeepArchiving"},
		{"WAL elsewhere", drill.Options{Restore: &restore.Options{WALDirectory: "/b"}}, nil, "WALDirectory"},
		{"a standby", drill.Options{Restore: &restore.Options{Standby: &restore.Standby{}}}, nil, "Standby"},
		{"another socket", drill.Options{Settings: map[string]string{"Unix-socket_directories": "/tmp"}}, nil, "the drill's own"},
		{"unknown amcheck", drill.Options{Amcheck: "all"}, nil, `"all"`},
		{"empty check", drill.Options{Checks: []drill.Check{{Name: "x"}}}, nil, "check 1: a check has either"},
		{"check of two kinds", drill.Options{Checks: []drill.Check{{SQL: "select 1", Func: ping}}}, nil, "either"},
		{"rows of a function", drill.Options{Checks: []drill.Check{{Func: ping, Want: [][]string{}}}}, nil, "rows"},
		{"checks of nobody", drill.Options{Restore: &restore.Options{Action: restore.Shutdown}, Amcheck: drill.Indexes}, nil, "use the action pause"},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			o := w.options
			o.Dir = filepath.Join(t.TempDir(), "scratch")
			if o.User == "" {
				o.User = serverUser(t)
			}
			report, err := drill.RunPlan(t.Context(), r, plan, &o)
			requireReport(t, report, err)
			require.Equal(t, drill.PhasePlan, report.Phase)
			require.ErrorContains(t, err, w.problem)
			require.True(t, w.is == nil || w.is(err), "%v", err)
			require.NoDirExists(t, o.Dir)
		})
	}
}

// TestUser drills as the user that the tests run as: root has to name another, and nobody else can.
func TestUser(t *testing.T) {
	t.Parallel()
	r := exampleRepo()
	plan, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.NoError(t, err)
	o := &drill.Options{Dir: filepath.Join(pgtest.Dir(t), "closed", "scratch"), BinDir: pgtest.BinDir(t, plan.Backup.PGVersion/10000)}
	want := "only root can run the server as another user"
	if os.Geteuid() == 0 {
		want = "PostgreSQL does not run as root: say which user"
	} else {
		o.User = "nobody"
	}
	report, err := drill.Run(t.Context(), r, restore.Latest(), o)
	requireReport(t, report, err)
	require.True(t, is[*drill.UserError](err), "%v", err)
	require.ErrorContains(t, err, want)
	if os.Geteuid() != 0 {
		return
	}
	// A directory on whose way it cannot go.
	require.NoError(t, os.Mkdir(filepath.Dir(o.Dir), 0o700))
	o.User = serverUser(t)
	report, err = drill.Run(t.Context(), r, restore.Latest(), o)
	require.Equal(t, drill.PhaseRestore, report.Phase)
	require.True(t, is[*drill.UserError](err), "%v", err)
	require.ErrorContains(t, err, "cannot run postgres in "+o.Dir)
	requireNothing(t, o.Dir)
}

// TestFindsPrograms leaves it to the drill to find the programs of the distribution's version.
func TestFindsPrograms(t *testing.T) {
	t.Parallel()
	s := newSite(t, &pgtest.Options{Distro: true}, false)
	o := s.options(t)
	o.BinDir = ""
	r, err := s.run(t, restore.Latest(), o)
	require.NoError(t, err)
	require.Contains(t, r.Server, strconv.Itoa(s.c.Major)+".")
}
