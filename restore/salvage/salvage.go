package salvage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/restore/drill"
)

// Options are the options of [Run]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// Dump, when set, is written all tables to, as an archive of the custom format, by the pg_dump of the cluster's major
	// version. pg_restore brings them back, with their indexes, constraints, triggers and owned sequences, and without
	// what else they depend on, such as schemas, types and functions. To an *os.File pg_dump writes by itself, and notes
	// where the data of each table begins, if it can seek in it. When Run fails, what was written is not to be used.
	Dump io.Writer

	// Func, when set, is called with a connection to the database as the superuser, before Dump is written: to read rows, by
	// queries or by COPY, or to change them. It is called from Run's own goroutine, once; the connection is closed afterwards.
	Func func(ctx context.Context, conn *pgx.Conn) error

	// Plan narrows the plan down.
	Plan *restore.PlanOptions

	// Jobs is how many packs and segments are fetched beside each other. The default is the number of processors.
	Jobs int

	// Dir is the scratch directory, as of [drill.Options]. It takes the space of the tables, of the system catalogs of their
	// database, and of the plan's WALBytes.
	Dir string

	// BinDir, User, Role, Preload, Settings and Env are those of [drill.Options]: where the programs of PostgreSQL are,
	// with pg_dump among them for Dump; who runs the server, which root has to say; the superuser to connect as; and how
	// the server runs. A table whose access method or types are of a library that has to be preloaded needs Preload.
	BinDir, User, Role, Preload string
	Settings                    map[string]string
	Env                         []string

	// Progress, when set, is told how far fetching has come, as by [restore.Options].
	Progress func(restore.Progress)

	// Began, when set, is told of each phase when it begins; the tables are taken out in drill.PhaseCheck. It is called from
	// Run's own goroutine.
	Began func(drill.Phase)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// Error is what kept tables from being brought back. What of it a caller may act on is in Err, such as a
// *[restore.UnreachableError], a *[restore.DatabaseError], a *[TableError], or an error of package drill.
type Error struct {
	Phase drill.Phase
	Err   error
}

func (e *Error) Error() string { return "salvage: " + phaseName(e.Phase) + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// phaseName is what a phase is for.
func phaseName(p drill.Phase) string {
	if p == drill.PhaseCheck {
		return "tables"
	}
	return string(p)
}

// Run recovers tables of a database to a target, and hands them out by [Options]. The names of the tables are those that they
// have at the target, where all have to be there; that of the database has to be the same in the backup. A table may have
// been created, renamed, rewritten or truncated since the backup. Nothing is handed out before all pages of the tables, and
// of what they have as TOAST, were read without an error.
//
// A partitioned table has no rows of its own: name its partitions. An unlogged one is empty, since that is what recovery
// leaves of it. Any other table is there by its name, and an error to read.
//
// The report is never nil; an error is an *[Error]. Whatever happens, in the end no process and nothing on disk is left, as
// with [drill.Run], by which it is done.
func Run(ctx context.Context, r *repo.Repo, to restore.Target, database string, tables []Table, o *Options) (*Report, error) {
	if o == nil {
		o = &Options{}
	}
	s := &salvage{repo: r, options: o, database: database, tables: slices.Clone(tables)}
	s.report = &Report{Database: database, Tables: []TableReport{}}
	begun := r.Now()
	err := s.run(ctx, to)
	s.report.conclude(err)
	s.report.Took = r.Now().Sub(begun)
	return s.report, err
}

// salvage is one that is going on.
type salvage struct {
	repo     *repo.Repo
	options  *Options
	database string
	tables   []Table
	report   *Report

	manifest *backup.Manifest
	names    backup.Names
	oids     []uint32 // of the tables that are fetched
	failed   error    // of taking the tables out
}

func (s *salvage) run(ctx context.Context, to restore.Target) error {
	begun := s.repo.Now()
	err := s.plan(ctx, to)
	s.report.PlanTook = s.repo.Now().Sub(begun)
	if err != nil {
		return &Error{Phase: drill.PhasePlan, Err: err}
	}
	for {
		err := s.attempt(ctx)
		// What has come by its name only now has to be fetched as well. Each time that is at least one table more. Where an
		// attempt could not clean up, its error is several, of which Unwrap is nil, and there is no other.
		var missed *missedError
		if !errors.As(errors.Unwrap(err), &missed) {
			return err
		}
		s.log().InfoContext(ctx, "a table has another name in the backup", "tables", missed.tables)
		s.oids = append(s.oids, missed.tables...)
	}
}

// plan decides how to get to the target, and what of the backup that takes.
func (s *salvage) plan(ctx context.Context, to restore.Target) error {
	if len(s.tables) == 0 {
		return errors.New("no table is named")
	}
	if s.options.Dump == nil && s.options.Func == nil {
		return errors.New("nothing is to become of the tables: set Dump or Func")
	}
	for i, t := range s.tables {
		if slices.Contains(s.tables[:i], t) {
			return fmt.Errorf("%s is named twice", t)
		}
	}
	p, err := restore.Prepare(ctx, s.repo, to, s.options.Plan)
	if err != nil {
		_ = errors.As(err, &s.report.Unreachable)
		return err
	}
	s.report.Plan = p
	if s.manifest, err = backup.Load(ctx, s.repo, p.Backup.ID); err != nil {
		return err
	}
	s.names = s.manifest.Catalog.Names()
	s.oids = []uint32{} // not nil: none rather than all
	if s.manifest.Catalog == nil {
		return nil // and restore tells
	}
	for _, r := range s.manifest.Catalog.Relations {
		named := slices.Contains(s.tables, Table{Schema: r.Schema, Name: r.Name})
		if named && s.manifest.Catalog.DatabaseName(r.Database) == s.database {
			s.oids = append(s.oids, r.OID)
		}
	}
	return nil
}

func (s *salvage) log() *slog.Logger {
	if s.options.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.options.Logger
}

// attempt recovers, with the tables that are known to be needed, by a drill whose only check takes them out.
func (s *salvage) attempt(ctx context.Context) error {
	o := s.options
	s.failed = nil
	var programs []string
	if o.Dump != nil {
		programs = []string{pgDump}
	}
	drilled, err := drill.RunPlan(ctx, s.repo, s.report.Plan, &drill.Options{
		Restore: &restore.Options{
			Jobs: o.Jobs, Databases: []string{s.database}, Tables: slices.Clone(s.oids), Progress: o.Progress, Logger: o.Logger,
		},
		Dir: o.Dir, BinDir: o.BinDir, User: o.User, Role: o.Role, Preload: o.Preload, Settings: o.Settings, Env: o.Env,
		Programs: programs, Began: o.Began, Logger: o.Logger,
		Checks: []drill.Check{{Name: "tables", Func: func(ctx context.Context, conn *pgx.Conn) error {
			s.failed = s.takeOut(ctx, conn)
			return s.failed
		}}},
	})
	s.report.add(drilled)
	return s.convert(err)
}

// convert makes errors of a drill this package's.
func (s *salvage) convert(err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, s.convert(e))
		}
		return errors.Join(all...)
	}
	var failed *drill.Error
	if !errors.As(err, &failed) {
		return err
	}
	var check *drill.CheckError
	if errors.As(failed.Err, &check) && s.failed != nil {
		return &Error{Phase: failed.Phase, Err: s.failed}
	}
	return &Error{Phase: failed.Phase, Err: failed.Err}
}
