package drill_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// is tells whether an error is of a type.
func is[T error](err error) bool {
	var want T
	return errors.As(err, &want)
}

// TestFinds damages a repository, a cluster's settings or what a drill asks for, in each way that there is. The drill says
// so, and in which phase, and leaves nothing.
func TestFinds(t *testing.T) {
	t.Parallel()
	whole := newSite(t, nil, false)
	segments := func(s *site) string { return filepath.Join(s.store, "wal", "*", "*", "*", "0*") }
	for _, f := range []struct {
		name    string
		damage  func(t *testing.T, s *site, o *drill.Options)
		planned func(t *testing.T, s *site) // damage once it is planned
		target  restore.Target
		phase   drill.Phase
		is      func(error) bool
		problem string
	}{
		{
			name: "corrupted pack", phase: drill.PhaseRestore, is: is[*repo.CorruptError], problem: "packs/",
			damage: func(t *testing.T, s *site, _ *drill.Options) { flip(t, s.object(t, "packs", "*", "*"), 1000) },
		},
		{
			name: "corrupted manifest", phase: drill.PhasePlan, is: is[*repo.CorruptError], problem: "backups/",
			damage: func(t *testing.T, s *site, _ *drill.Options) { flip(t, s.object(t, "backups", "*"), 200) },
		},
		{
			name: "missing segment", phase: drill.PhasePlan, is: is[*restore.UnreachableError], problem: "is missing",
			damage: func(t *testing.T, s *site, _ *drill.Options) {
				all, err := filepath.Glob(segments(s))
				require.NoError(t, err)
				require.GreaterOrEqual(t, len(all), 2)
				require.NoError(t, os.Remove(all[len(all)-2]))
			},
		},
		{
			name: "segment that goes missing", phase: drill.PhaseRestore, is: func(error) bool { return true }, problem: "stage WAL",
			planned: func(t *testing.T, s *site) { require.NoError(t, os.Remove(s.object(t, "wal", "*", "*", "*", "0*"))) },
		},
		{
			name: "corrupted segment", phase: drill.PhaseRestore, is: is[*repo.CorruptError], problem: "wal/",
			damage: func(t *testing.T, s *site, _ *drill.Options) { flip(t, s.object(t, "wal", "*", "*", "*", "0*"), 300) },
		},
		{
			name: "server that cannot boot", phase: drill.PhaseRecovery, is: is[*drill.ServerError], problem: `could not access file "no_such_library"`,
			damage: func(_ *testing.T, _ *site, o *drill.Options) { o.Preload = "no_such_library" },
		},
		{
			name: "setting that does not exist", phase: drill.PhaseRecovery, is: is[*drill.ServerError], problem: "no_such_setting",
			damage: func(_ *testing.T, _ *site, o *drill.Options) { o.Settings["no_such_setting"] = "1" },
		},
		{
			name: "target that is not there", phase: drill.PhasePlan, is: is[*restore.UnreachableError], target: restore.AtName("never"),
			problem: "there is no restore point of that name",
		},
		{
			name: "target that is not there after all", phase: drill.PhaseRecovery, is: is[*drill.ServerError], target: restore.AtName("half"),
			problem: "recovery ended before configured recovery target was reached",
			damage:  func(_ *testing.T, _ *site, o *drill.Options) { o.Settings["recovery_target_name"] = "never" },
		},
		{
			name: "target that is not heeded", phase: drill.PhaseRecovery, is: is[*drill.ElsewhereError], target: restore.AtName("half"),
			problem: "has not said that it reached the target",
			damage:  func(_ *testing.T, _ *site, o *drill.Options) { o.Settings["recovery_target_name"] = "" },
		},
		{
			name: "another target than that", phase: drill.PhaseRecovery, is: is[*drill.ElsewhereError], target: restore.AtName("half"),
			problem: `restore point "other"`,
			damage:  func(_ *testing.T, _ *site, o *drill.Options) { o.Settings["recovery_target_name"] = "other" },
		},
		{
			name: "target where none was", phase: drill.PhaseRecovery, is: is[*drill.ElsewhereError], problem: "some target",
			damage: func(_ *testing.T, _ *site, o *drill.Options) { o.Settings["recovery_target_name"] = "other" },
		},
		{
			name: "role that is not there", phase: drill.PhaseRecovery, is: func(error) bool { return true }, problem: `role "nobody" does not exist`,
			damage: func(_ *testing.T, _ *site, o *drill.Options) { o.Role = "nobody" },
		},
		{
			name: "other rows", phase: drill.PhaseCheck, is: is[*drill.CheckError], problem: "1 of 4 checks failed; the first is rows: row 1 is (300), not (301)",
			damage: func(_ *testing.T, _ *site, o *drill.Options) {
				o.Checks = []drill.Check{
					{SQL: `select 1`},
					{Name: "rows", SQL: `select count(*) from orders`, Want: [][]string{{"301"}}},
					{SQL: `select true`},
					{SQL: `select 'text', false`},
				}
			},
		},
		{
			name: "too many rows", phase: drill.PhaseCheck, is: is[*drill.CheckError], problem: "there are 300 rows, not 1",
			damage: func(_ *testing.T, _ *site, o *drill.Options) {
				o.Checks = []drill.Check{{SQL: `select 7 from orders`, Want: [][]string{{"7"}}}}
			},
		},
		{
			name: "no rows", phase: drill.PhaseCheck, is: is[*drill.CheckError], problem: "there are no rows",
			damage: func(_ *testing.T, _ *site, o *drill.Options) {
				o.Checks = []drill.Check{{SQL: `select * from orders where id > 300`}}
			},
		},
		{
			name: "untrue", phase: drill.PhaseCheck, is: is[*drill.CheckError], problem: "row 300 is not true",
			damage: func(_ *testing.T, _ *site, o *drill.Options) {
				o.Checks = []drill.Check{{SQL: `select id < 300 from orders order by id`}}
			},
		},
		{
			name: "error in SQL", phase: drill.PhaseCheck, is: is[*drill.CheckError], problem: `relation "gone" does not exist`,
			damage: func(_ *testing.T, _ *site, o *drill.Options) { o.Checks = []drill.Check{{SQL: `select * from gone`}} },
		},
		{
			name: "no such database", phase: drill.PhaseCheck, is: is[*drill.CheckError], problem: `database "gone" does not exist`,
			damage: func(_ *testing.T, _ *site, o *drill.Options) {
				o.Checks = []drill.Check{{SQL: `select 1`, Database: "gone"}}
			},
		},
		{
			name: "server that dies of a check", phase: drill.PhaseCheck, is: is[*drill.CheckError], problem: "2 of 2",
			damage: func(_ *testing.T, _ *site, o *drill.Options) {
				o.Checks = []drill.Check{{SQL: `select pg_terminate_backend(pg_backend_pid())`}, {Name: "x", Func: func(context.Context, *pgx.Conn) error {
					return errors.New("not what it should be")
				}}}
			},
		},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := whole.copied(t)
			o := s.options(t)
			if f.damage != nil {
				f.damage(t, s, o)
			}
			if f.target.Kind == "" {
				f.target = restore.Latest()
			}
			var r *drill.Report
			var err error
			if f.planned != nil {
				p, perr := restore.Prepare(t.Context(), s.r, f.target, nil)
				require.NoError(t, perr)
				f.planned(t, s)
				r, err = drill.RunPlan(t.Context(), s.r, p, o)
				requireReport(t, r, err)
				requireNothing(t, o.Dir)
			} else {
				r, err = s.run(t, f.target, o)
			}
			require.Error(t, err)
			require.Equal(t, f.phase, r.Phase, "%v", err)
			require.True(t, f.is(err), "%v", err)
			require.ErrorContains(t, err, f.problem)
			if f.phase == drill.PhaseRecovery {
				require.NotEmpty(t, r.Log)
			}
		})
	}
}

// TestFindsTheEndOfTornWAL archives a segment whose WAL is broken in its middle, as a disk may leave it. PostgreSQL takes
// that for the end and recovers without a word.
func TestFindsTheEndOfTornWAL(t *testing.T) {
	t.Parallel()
	s := newCluster(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize}, false)
	s.backUp(t)
	s.c.Exec(t, `select pg_switch_wal()`, `create table big as select i, md5(i::text) from generate_series(1, 60000) i`)
	torn := pgtest.Value[string](t, s.c, `select pg_walfile_name(pg_current_wal_lsn() - 3000000)`)
	flip(t, filepath.Join(s.c.Data, "pg_wal", torn), wal.MinSegmentSize/2)
	s.archive(t)
	r, err := s.run(t, restore.Latest(), s.options(t))
	require.Equal(t, drill.PhaseRecovery, r.Phase)
	require.True(t, is[*drill.ElsewhereError](err), "%v", err)
	require.ErrorContains(t, err, "before the last record of the archive at")

	// In the last segment, whose records end there for everybody.
	last := pgtest.Value[string](t, s.c, `select pg_walfile_name(pg_current_wal_lsn())`)
	s.c.Exec(t, `insert into orders select i, repeat('x', 100) from generate_series(1001, 2000) i`)
	flip(t, filepath.Join(s.c.Data, "pg_wal", last), 60000)
	s.archive(t)
	p, err := restore.Prepare(t.Context(), s.r, restore.Latest(), nil)
	require.NoError(t, err)
	require.Equal(t, last, p.WAL[0].Last.Name())
	r, err = s.run(t, restore.Latest(), s.options(t))
	require.Equal(t, drill.PhaseRecovery, r.Phase)
	require.True(t, is[*drill.ElsewhereError](err), "%v", err)
	require.ErrorContains(t, err, "damaged WAL")
}

// TestFindsWrongChecksums backs up a cluster with damaged pages. pg_checksums finds them all, amcheck those that it reads.
func TestFindsWrongChecksums(t *testing.T) {
	t.Parallel()
	s := newCluster(t, &pgtest.Options{Distro: true}, false)
	table := pgtest.Value[string](t, s.c, `select pg_relation_filepath('orders')`)
	index := pgtest.Value[string](t, s.c, `select pg_relation_filepath('orders_pkey')`)
	s.backUp(t)
	o := s.options(t)
	o.Amcheck, o.Checksums = drill.HeapAllIndexed, true
	r, err := s.run(t, restore.Immediate(), o)
	require.NoError(t, err, "nothing is wrong yet")
	require.Equal(t, "checksums", r.Checks[len(r.Checks)-1].Name)
	require.Empty(t, r.Checks[len(r.Checks)-1].Skipped)

	s.c.Stop(t)
	flip(t, filepath.Join(s.c.Data, table), 8000)
	flip(t, filepath.Join(s.c.Data, index), 8192+8000)
	s.c.Start(t)
	s.backUp(t)
	require.Equal(t, 2, s.m.BadPages)
	for _, how := range []struct {
		amcheck   drill.Amcheck
		checksums bool
		found     []string
	}{
		{drill.NoAmcheck, true, []string{table, index}},
		{drill.Indexes, false, []string{index}},
		{drill.HeapAllIndexed, true, []string{table, index}},
	} {
		o := s.options(t)
		o.Amcheck, o.Checksums = how.amcheck, how.checksums
		r, err := s.run(t, restore.Immediate(), o)
		require.Equal(t, drill.PhaseCheck, r.Phase)
		require.True(t, is[*drill.CheckError](err), "%v", err)
		for _, path := range how.found {
			require.Contains(t, r.String(), path)
		}
	}
}

// A cluster without data checksums has none to check.
func TestNoChecksums(t *testing.T) {
	t.Parallel()
	s := newSite(t, &pgtest.Options{Distro: true, NoChecksums: true}, false)
	o := s.options(t)
	o.Checksums = true
	r, err := s.run(t, restore.Latest(), o)
	require.NoError(t, err)
	require.Equal(t, "the cluster has no data checksums", r.Checks[0].Skipped)
	require.Contains(t, r.String(), "no data checksums")
}
