package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// Options are the options of [Run]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// Plan narrows the plan down. RunPlan has one already.
	Plan *restore.PlanOptions

	// Restore says how to restore: with how many jobs, to pause at the target, with progress. Tablespaces, WALDirectory and
	// KeepArchiving are the drill's own and have to be unset, as has Standby, whose recovery does not end. With the action
	// Pause checks see the server in recovery, which answers queries only; with Shutdown nothing but Checksums can be checked.
	// With Databases or Tables, damage of what they select, which recovery passes over then, is a *[DamageError]; with Tables
	// the default database of checks is that of the tables.
	Restore *restore.Options

	// Dir is the scratch directory, which the drill makes, or which is empty; anything else is a *[restore.NotEmptyError].
	// What a drill that was killed has left in it is cleared: so give the same one again. It takes the space of the plan's
	// RestoreBytes and WALBytes. The default is a new directory for temporary files.
	Dir string

	// BinDir is where the programs of PostgreSQL are, of the backup's major version. By default they are looked for in PATH,
	// by pg_config, and where packages of Debian and of PostgreSQL's own repositories put them.
	BinDir string

	// Programs are programs of PostgreSQL that have to be there besides those that the drill needs, such as pg_dump for a
	// check: where they are not, that is told before anything is fetched.
	Programs []string

	// User is the user of the operating system that the server runs as. Root has to give one, and nobody else can.
	User string

	// Role is a superuser of the cluster, as which checks are made. The default is postgres.
	Role string

	// Preload is the server's shared_preload_libraries. The default is none, so that nothing wakes up in the copy that acts
	// by itself. WAL of a custom resource manager cannot be replayed without its library.
	Preload string

	// Settings are more settings of the server. They win over the drill's own, which keep the copy to itself, and small: it
	// has shared_buffers of 128MB. Where its socket and its log are stays as it is.
	Settings map[string]string

	// Env are more environment variables of the server, as NAME=value, and so of a restore_command. It has few otherwise.
	Env []string

	// Checks are what to ask the server once it has recovered, one after another.
	Checks []Check

	// Amcheck has indexes checked. The default is not to.
	Amcheck Amcheck

	// Checksums has the server shut down in the end, and all pages read by pg_checksums, where the cluster has data
	// checksums. The default is not to.
	Checksums bool

	// Receipt leaves a receipt of the drill in the repository, for [backup.LastReceipt] to find, unless it is ended by its
	// context or never gets to the repository's content. Failing to is a warning of the Logger. The default is not to.
	Receipt bool

	// Began, when set, is told of each phase when it begins. It is called from Run's own goroutine.
	Began func(Phase)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

func (o *Options) role() string {
	if o.Role == "" {
		return "postgres"
	}
	return o.Role
}

// Run drills a recovery to a target. The report is never nil; where the error is not nil, it tells how far the drill has
// come. An error is an *[Error], and OK is set in the report only without one: also when the recovery works, and ends
// elsewhere than asked for, or a check fails. The context's end ends the drill; a recovery may take as long as it likes.
//
// Whatever happens, in the end no process and nothing on disk is left of it. One that is killed leaves its directory; on
// Linux its server shuts down by itself, and elsewhere the next drill in the directory tells that it runs.
func Run(ctx context.Context, r *repo.Repo, t restore.Target, o *Options) (*Report, error) {
	return run(ctx, r, o, func() (*restore.Plan, error) {
		var narrow *restore.PlanOptions
		if o != nil {
			narrow = o.Plan
		}
		return restore.Prepare(ctx, r, t, narrow)
	})
}

// RunPlan drills a recovery that has been planned, as [Run] does.
func RunPlan(ctx context.Context, r *repo.Repo, p *restore.Plan, o *Options) (*Report, error) {
	return run(ctx, r, o, func() (*restore.Plan, error) { return p, nil })
}

func run(ctx context.Context, r *repo.Repo, o *Options, plan func() (*restore.Plan, error)) (_ *Report, err error) {
	if o == nil {
		o = &Options{}
	}
	d := &drill{repo: r, options: *o, prepare: plan, report: &Report{Checks: []CheckResult{}}}
	if d.options.Restore != nil {
		d.restore = *d.options.Restore
	}
	if d.options.Logger == nil {
		d.options.Logger = slog.New(slog.DiscardHandler)
	}
	begun := r.Now()
	defer func() { // also when a check panics
		if clean := d.cleanUp(); clean != nil {
			err = errors.Join(err, &Error{Phase: PhaseCleanup, Err: clean})
		}
		d.report.conclude(err)
		d.report.Took = r.Now().Sub(begun)
		d.leaveReceipt(ctx, begun)
	}()
	if err := d.do(ctx, PhasePlan, &d.report.PlanTook, d.plan); err != nil {
		return d.report, err
	}
	err = backup.Use(ctx, r, d.report.Plan.Backup.ID, func(ctx context.Context) error {
		if err := d.do(ctx, PhaseRestore, &d.report.RestoreTook, d.restoreAll); err != nil {
			return err
		}
		if err := d.do(ctx, PhaseRecovery, &d.report.RecoveryTook, d.recover); err != nil {
			return err
		}
		return d.do(ctx, PhaseCheck, &d.report.CheckTook, d.check)
	})
	var failed *Error
	if err != nil && !errors.As(err, &failed) { // the context ended before
		err = &Error{Phase: PhaseRestore, Err: err}
	}
	return d.report, err
}

// do does what a phase is for, and takes the time.
func (d *drill) do(ctx context.Context, phase Phase, took *time.Duration, f func(context.Context) error) error {
	if d.options.Began != nil {
		d.options.Began(phase)
	}
	d.options.Logger.InfoContext(ctx, "drill", "phase", phase)
	since := d.repo.Now()
	err := ctx.Err()
	if err == nil {
		err = f(ctx)
	}
	*took = d.repo.Now().Sub(since)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err() // and not what came of it
	}
	return &Error{Phase: phase, Err: err}
}

// drill is one that is going on.
type drill struct {
	repo    *repo.Repo
	options Options
	restore restore.Options
	prepare func() (*restore.Plan, error)
	report  *Report
	result  *restore.Result

	account *account
	bin     string
	scratch *scratch
	server  *server
}

// plan decides what to do, and finds what it takes, before anything is fetched.
func (d *drill) plan(ctx context.Context) (err error) {
	if err := d.validate(); err != nil {
		return err
	}
	p, err := d.prepare()
	if err != nil {
		var unreachable *restore.UnreachableError
		if errors.As(err, &unreachable) {
			d.report.Unreachable = unreachable
		}
		return err
	}
	d.report.Plan = p
	if d.account, err = findAccount(d.options.User); err != nil {
		return err
	}
	need := append([]string{"postgres"}, d.options.Programs...)
	if d.options.Checksums {
		need = append(need, pgChecksums)
	}
	d.bin, d.report.Server, err = findBinaries(ctx, d.options.BinDir, p.Backup.PGVersion/10000, need)
	return err
}

// validate tells what is wrong with the options.
func (d *drill) validate() error {
	o := &d.options
	if len(d.restore.Tablespaces) > 0 || d.restore.WALDirectory != "" || d.restore.KeepArchiving {
		return errors.New("Restore.Tablespaces, Restore.WALDirectory and Restore.KeepArchiving are not for a drill: it keeps all in its own directory")
	}
	if d.restore.Standby != nil {
		return errors.New("Restore.Standby is not for a drill: a standby's recovery does not end, and it would reach for its primary")
	}
	for name := range o.Settings {
		// As the command line has it, in which case and hyphens do not matter.
		if slices.Contains(essential(), strings.ToLower(strings.ReplaceAll(name, "-", "_"))) {
			return fmt.Errorf("the setting %s is the drill's own", name)
		}
	}
	if _, err := connConfig(); err != nil {
		return err
	}
	switch o.Amcheck {
	case NoAmcheck, Indexes, HeapAllIndexed:
	default:
		return fmt.Errorf("unknown amcheck %q", o.Amcheck)
	}
	if d.restore.Tables != nil && o.Amcheck != NoAmcheck {
		return errors.New("amcheck checks all databases, and Restore.Tables leaves most of them out")
	}
	if d.restore.Action == restore.Shutdown && (len(o.Checks) > 0 || o.Amcheck != NoAmcheck) {
		return errors.New("a server that shuts down at the target cannot be asked: use the action pause")
	}
	if len(d.restore.Databases) > 0 && o.Amcheck != NoAmcheck {
		return errors.New("amcheck looks into every database, so it is not for a drill of some databases: check them by SQL")
	}
	for i := range o.Checks {
		if err := o.Checks[i].validate(); err != nil {
			return fmt.Errorf("check %d: %w", i+1, err)
		}
	}
	return nil
}

// restoreAll restores to the scratch directory.
func (d *drill) restoreAll(ctx context.Context) (err error) {
	p := d.report.Plan
	if d.scratch, err = openScratch(ctx, d.options.Dir, d.account, d.options.Logger); err != nil {
		return err
	}
	d.server = &server{
		scratch: d.scratch, account: d.account, bin: d.bin, major: p.Backup.PGVersion / 10000, options: &d.options, action: d.restore.Action,
	}
	if d.restore.Tables != nil && len(d.restore.Databases) > 0 {
		d.server.database = d.restore.Databases[0] // no other can be connected to
	}
	if d.account.switched {
		// Whether it can get to the directory is better known before hours of work.
		if out, err := d.server.run(ctx, "postgres", "-V"); err != nil {
			return &UserError{User: d.account.name, Reason: fmt.Sprintf("it cannot run postgres in %s: %v %s", d.scratch.dir, err, out)}
		}
	}
	m, err := backup.Load(ctx, d.repo, p.Backup.ID)
	if err != nil {
		return err
	}
	data, spaces := d.scratch.path(dataName), d.scratch.path(spacesName)
	own := []string{data}
	o := d.restore
	o.Tablespaces = map[string]string{}
	for _, t := range m.Tablespaces {
		oid := strconv.FormatUint(uint64(t.OID), 10)
		o.Tablespaces[oid] = filepath.Join(spaces, oid)
	}
	if len(m.Tablespaces) > 0 {
		own = append(own, spaces)
	}
	if d.result, err = p.Run(ctx, d.repo, data, &o); err != nil {
		return err
	}
	d.report.RestoredBytes, d.report.Segments = d.result.RestoredBytes, d.result.Segments
	return d.account.own(own...)
}

// recover boots the server and waits until it has recovered.
func (d *drill) recover(ctx context.Context) error {
	p := d.report.Plan
	var last wal.LSN
	if p.Target.Kind == restore.KindLatest {
		// Once it has recovered, the server removes the WAL.
		var err error
		if last, err = lastRecord(ctx, d.repo, p, d.scratch.path(dataName)); err != nil {
			return err
		}
	}
	if err := d.server.start(); err != nil {
		return err
	}
	state, err := d.server.await(ctx)
	if err != nil {
		return err
	}
	where, err := d.server.whereRecovered(ctx, state)
	if err != nil {
		return err
	}
	if d.report.Stopped = where.stopping; where.LSN != 0 {
		d.report.RecoveredTo = &where.Point
	}
	if err := where.damage(d.result.Restored); err != nil {
		return err
	}
	return where.check(p, last)
}

// check asks the server. All checks are made, whatever becomes of the others.
func (d *drill) check(ctx context.Context) error {
	r := d.report
	for i := range d.options.Checks {
		r.Checks = append(r.Checks, d.options.Checks[i].run(ctx, d.server))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if d.options.Amcheck != NoAmcheck {
		r.Checks = append(r.Checks, d.server.amcheck(ctx, d.options.Amcheck)...)
	}
	if d.options.Checksums {
		r.Checks = append(r.Checks, d.server.checksums(ctx))
	}
	failed := &CheckError{Of: len(r.Checks)}
	for _, c := range r.Checks {
		if !c.OK {
			failed.Failed = append(failed.Failed, c)
		}
	}
	if len(failed.Failed) > 0 {
		return failed
	}
	return nil
}

// cleanUp ends the server and removes everything. What processes may still use is left.
func (d *drill) cleanUp() error {
	if d.scratch == nil {
		return nil
	}
	if d.server != nil {
		err := d.server.discard()
		if log, logErr := readLog(d.scratch.path(logName)); logErr == nil {
			d.report.Log = log.tail
		}
		if err != nil {
			return errors.Join(err, d.scratch.release())
		}
	}
	return d.scratch.remove()
}
