package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/speed"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"golang.org/x/sync/errgroup"
)

// Options are the options of [Plan.Run]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// Jobs is how many packs and segments are fetched beside each other. The default is the number of processors.
	Jobs int

	// Tablespaces says where tablespaces go: a directory for each name or OID. A restore writes nowhere else, so every
	// tablespace of the backup must be in it, unless TablespacesInPlace is set.
	Tablespaces map[string]string

	// TablespacesInPlace keeps the tablespaces that Tablespaces says nothing of within the data directory: what would be a
	// symbolic link in pg_tblspc is a directory. For PostgreSQL to recover with that, allow_in_place_tablespaces is on from
	// then on (where it is known: from 13.8, 14.5 and 15 on).
	TablespacesInPlace bool

	// WALDirectory is where pg_wal goes, which then is a symbolic link, as initdb --waldir makes it. It is made, or empty.
	// The default, empty, is in the data directory.
	WALDirectory string

	// Databases are the names of the databases to restore, as they were when the backup was taken; one that it does not
	// have is a *[DatabaseError]. Always restored are template0, template1 and postgres, all that databases share, and
	// what is created by the WAL that is replayed, unless it is copied from a database that is not restored. Of the others
	// nothing is fetched: their files are there, but zero, and take no space. Nobody can connect to them; drop them once
	// the server is up. The default, empty, is all databases.
	//
	// WAL may change pages of the others that are zero now, as VACUUM does without checksums: PostgreSQL takes that for
	// damage. So ignore_invalid_pages is on, and damage of the databases that are restored does not end recovery either. Each
	// such page, with the path of its relation, is a warning in the server's log; [Result.Warnings] says what to do.
	Databases []string

	// Tables, unless it is nil, narrows the one database that Databases names down to some tables, by their OIDs, which
	// [backup.Relation] gives: restored are these, with their indexes and TOAST, the database's system catalogs but for large
	// objects, its sequences, all that databases share, and what is created by the WAL that is replayed. An OID that the backup
	// does not have is passed over. All else is there, but zero, the system databases among it: this is a copy to take the
	// tables out of (see package salvage), and to remove. Whose relations the backup does not know is a *[DatabaseError].
	Tables []uint32

	// RestoreCommand is the restore_command by which PostgreSQL is to fetch WAL. The default, empty, stages the WAL of
	// the plan in pg_wal, so that no program is needed to recover. Recovery goes on when Run has returned: until it has
	// ended, see to it that retention does not take the WAL away, by backup.Use or by not running it. To PostgreSQL a
	// segment that is missing is the end of the WAL, and it goes on from there without a word; so for one of Plan.WAL the
	// command should exit with a status above 125, which stops the server.
	RestoreCommand string

	// Action is what PostgreSQL does at the target. The default is Promote. A standby has none.
	Action Action

	// Standby, when set, makes a standby. The plan's target is Latest, or Immediate, which brings no more WAL than the
	// backup needs. With RestoreCommand, WAL that the primary no longer has comes from the archive.
	Standby *Standby

	// Delta restores into a directory that holds a data directory already, as well as into an empty one: what is there is
	// compared with the backup, and only frames (of up to 1 MiB) that differ are fetched, and only blocks that differ are
	// written. Everything that is not of the backup is removed. Tablespaces are taken to be where the links of that data
	// directory lead, if these are the directories of Tablespaces. A directory in which a server runs is a *[RunningError],
	// as far as it can be seen: a server of another host or container may not be. One of another cluster, or none, is a
	// *[ForeignError], one with a repository in it a *[RepositoryError], and one with something mounted in it that is in
	// the way a *[MountError], as Linux tells. Of a copied data directory the links still lead to the tablespaces of the
	// one that it was copied from. The default, false, takes empty directories only.
	Delta bool

	// Overwrite has Delta take a directory whatever it holds. Nothing of that is left. By default it has to be of the
	// backup's cluster. A server must not run in it either way.
	Overwrite bool

	// KeepArchiving leaves archive_mode as the backup has it. By default it is turned off, so that a copy never writes
	// into the archive of the original. A standby that is to take its primary's place wants it: with archive_mode on, it
	// archives once it is promoted, and only with archive_mode always before.
	KeepArchiving bool

	// Progress, when set, is told how far the restore has come. It is called from Run's own goroutine, a few times a
	// second, and not after Run has returned.
	Progress func(Progress)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// Progress tells how far a restore has come.
type Progress struct {
	Phase         string // "files", "sync"
	RestoredBytes int64  // written to files
	ReusedBytes   int64  // found right where they are
	TotalBytes    int64
	Segments      int // of WAL, staged so far
	TotalSegments int
	Rate          int64         // bytes restored or reused a second, over the last ten; 0 when not known
	Remaining     time.Duration // to do the rest at that rate; 0 as Rate is
}

// Result is what a restore has done.
type Result struct {
	Plan          *Plan
	Directory     string
	RestoredBytes int64 // written; what is zero is left out
	ReusedBytes   int64 // found right where they are
	Segments      int   // of WAL, staged or found right
	Took          time.Duration

	// Warnings say what to do when PostgreSQL has recovered. Those of the plan come besides.
	Warnings []string

	selection *selection
}

// progressEvery is how often Options.Progress is called.
const progressEvery = 200 * time.Millisecond

// Run restores the plan's backup into dir, which it makes, or which is empty; anything else is a *[NotEmptyError], unless
// the options say Delta. A directory in which an earlier Run was killed is used again: what that one has done is compared
// with the backup, and only the rest is fetched. When Run returns nil everything is on disk and PostgreSQL can be started;
// before, it cannot, since pg_control goes first and comes last. Files and directories are private to the user that runs the
// restore, and have to be given to the user that runs PostgreSQL.
//
// Nothing outside of dir and the directories of the options is written to, whatever links are found there.
//
// A backup_manifest says what was restored, with checksums: until PostgreSQL is started, pg_verifybackup finds out whether
// all is as it was written, and whether the WAL that makes the backup consistent is there. Where that is not staged, or a
// timeline begins within it, it needs --no-parse-wal.
//
// Every byte is checked before it is written: content that is not what was backed up is a *[repo.CorruptError].
func (p *Plan) Run(ctx context.Context, r *repo.Repo, dir string, o *Options) (*Result, error) {
	if o == nil {
		o = &Options{}
	}
	options := *o
	if options.Jobs <= 0 {
		options.Jobs = runtime.GOMAXPROCS(0)
	}
	if err := p.check(&options); err != nil {
		return nil, err
	}
	if options.Overwrite && !options.Delta {
		return nil, errors.New("restore: Overwrite is for Delta")
	}
	var result *Result
	err := backup.Use(ctx, r, p.Backup.ID, func(ctx context.Context) (err error) {
		result, err = p.run(ctx, r, dir, options)
		return err
	})
	return result, err
}

// run is Run, with options that were checked, while the backup is in use.
func (p *Plan) run(ctx context.Context, r *repo.Repo, dir string, options Options) (*Result, error) {
	begun := r.Now()
	m, err := backup.Load(ctx, r, p.Backup.ID)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	archive, err := wal.NewArchive(r, &wal.Options{SystemID: m.SystemID})
	if err != nil {
		return nil, err
	}
	only, err := selected(m, &options)
	if err != nil {
		return nil, err
	}
	only.leaveOut(m)
	d, err := openDestination(dir, m, &options)
	if err != nil {
		return nil, err
	}
	defer d.close()
	run := &run{plan: p, repo: r, archive: archive, manifest: m, dest: d, options: options, selection: only}
	if err := run.all(ctx); err != nil {
		return nil, err
	}
	return &Result{
		Plan: p, Directory: d.path, RestoredBytes: run.restored.Load(), ReusedBytes: run.reused.Load(), Segments: int(run.staged.Load()),
		Took: r.Now().Sub(begun), Warnings: append(only.warnings(), d.mark.warnings()...), selection: only,
	}, nil
}

// check tells what is wrong with options, and sets the action when it has a default.
func (p *Plan) check(o *Options) error {
	if o.Standby != nil {
		return checkStandby(p, o)
	}
	switch o.Action {
	case "":
		o.Action = Promote
	case Promote, Pause, Shutdown:
	default:
		return fmt.Errorf("restore: unknown action %q", o.Action)
	}
	return nil
}

type run struct {
	plan     *Plan
	repo     *repo.Repo
	archive  *wal.Archive
	manifest *backup.Manifest
	dest     *destination
	options  Options

	selection *selection

	restored, reused, staged atomic.Int64
	total                    int64
	speed                    speed.Meter
	wal                      []string // files to be staged
}

func (r *run) all(ctx context.Context) error {
	for _, f := range r.manifest.FileList {
		r.total += f.Data
	}
	if r.options.RestoreCommand == "" {
		r.wal = r.plan.files()
	}
	keep := make([]string, len(r.wal))
	for i, name := range r.wal {
		keep[i] = "pg_wal/" + name
	}
	if err := r.dest.begin(ctx, keep); err != nil {
		return err
	}
	if err := r.fetch(ctx); err != nil {
		return err
	}
	if err := r.configure(); err != nil {
		return err
	}
	r.progress("sync")
	return r.dest.commit(ctx, r.manifest.Control)
}

// fetch brings the files and the WAL, and shows progress meanwhile.
func (r *run) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- r.fetchAll(ctx) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-result:
			return err
		case <-tick.C:
			r.progress("files")
		}
	}
}

func (r *run) fetchAll(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.options.Jobs)
	g.Go(func() error { return r.dest.makeEmpty(gctx) })
	if r.dest.reuse {
		for parts := range byFile(holes(r.manifest)) {
			g.Go(func() error { return r.dest.clearHoles(gctx, parts) })
		}
	}
	for _, i := range apart(len(r.manifest.PackList), r.options.Jobs) {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return r.pack(gctx, &r.manifest.PackList[i]) })
	}
	for _, name := range r.wal {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return r.stage(gctx, name) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// apart orders the numbers below n so that, taken by as many jobs, those that are under way are far apart: packs that
// follow each other have pieces of the same file, and the kernel lets one write to a file at a time.
func apart(n, jobs int) []int {
	jobs = max(1, min(jobs, n))
	stride := (n + jobs - 1) / jobs
	order := make([]int, 0, n)
	for i := range stride {
		for at := i; at < n; at += stride {
			order = append(order, at)
		}
	}
	return order
}

// pack reads what is needed of a pack, and is not there yet, and writes its pieces where they belong.
func (r *run) pack(ctx context.Context, p *backup.PackPieces) error {
	want := p.Needs
	if r.dest.reuse {
		right, err := r.local(ctx, p)
		if err != nil {
			return err
		}
		want = func(i int) bool { return p.Needs(i) && !right[i] }
	}
	w := r.dest.writer()
	defer func() { _ = w.close() }() // once more does nothing
	err := r.repo.ReadFrames(ctx, p.Pack, want, func(i int, raw []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, piece := range p.Pieces[i] {
			if piece.File != backup.NoFile {
				n, err := w.write(piece.File, raw[:piece.Length], piece.Offset)
				if err != nil {
					return err
				}
				r.restored.Add(int64(n))
				r.reused.Add(int64(piece.Length - n))
			}
			raw = raw[piece.Length:]
		}
		return nil
	})
	if err != nil {
		return notMissing(fmt.Errorf("restore: %w", err))
	}
	return w.close()
}

// stage brings a file of the archive into pg_wal.
func (r *run) stage(ctx context.Context, name string) error {
	if r.dest.reuse {
		same, err := r.stagedBefore(ctx, name)
		if err != nil {
			return notMissing(fmt.Errorf("restore: stage WAL: %w", err))
		}
		if same {
			r.staged.Add(1)
			return nil
		}
	}
	err := r.dest.create("pg_wal/"+name, func(w io.Writer) error { return r.archive.Read(ctx, name, w) })
	if err != nil {
		return notMissing(fmt.Errorf("restore: stage WAL: %w", err))
	}
	r.staged.Add(1)
	return nil
}

// configure writes what tells PostgreSQL how to recover, and what tells pg_verifybackup what was restored.
func (r *run) configure() error {
	const main, auto = "postgresql.conf", "postgresql.auto.conf"
	signalFile := "recovery.signal"
	if r.options.Standby != nil {
		signalFile = "standby.signal"
	}
	existing, err := r.dest.readText(auto)
	if err != nil {
		return err
	}
	files := map[string]string{
		"backup_label": r.manifest.Label,
		signalFile:     "",
		auto:           autoConf(existing, r.plan, &r.options, r.moreSettings()),
	}
	// Debian and others keep this file elsewhere.
	conf, err := r.dest.readText(main)
	if err != nil {
		return err
	}
	if cleared := withoutOwned(conf); cleared != conf {
		files[main] = cleared
	}
	for name, content := range files {
		if err := r.dest.createText(name, content); err != nil {
			return err
		}
	}
	files[pgfile.ControlPath] = string(r.manifest.Control) // to come
	return r.describe(files)
}

// notMissing hides fs.ErrNotExist: a missing pack or segment is no answer to whether the backup exists.
func notMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}

func (r *run) progress(phase string) {
	if r.options.Progress == nil {
		return
	}
	p := Progress{
		Phase: phase, RestoredBytes: r.restored.Load(), ReusedBytes: r.reused.Load(), TotalBytes: r.total,
		Segments: int(r.staged.Load()), TotalSegments: len(r.wal),
	}
	if phase == "files" {
		p.Rate, p.Remaining = r.speed.Measure(r.repo.Now(), p.RestoredBytes+p.ReusedBytes, p.TotalBytes)
	}
	r.options.Progress(p)
}
