package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgcairn/pgcairn/internal/pace"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/internal/speed"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"golang.org/x/sync/errgroup"
)

// Options are the options of [Take]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// Type is how much to store. The default is Full. A difference to another backup needs one to build on: where none
	// will do, the backup is a full one all the same, and its manifest says why.
	Type Type

	// Method is how to find out what has changed. The default is the first that works, of those in [Method]'s order
	// that are always right: not ByLSN, which does not see what changed while wal_level was minimal.
	Method Method

	// Jobs is how many files are read and compressed beside each other. The default is the number of processors, or that of
	// the connections that an SQL source reads by, if that is more: who waits for the server needs no processor.
	Jobs int

	// Compression is how files are compressed. Manifest and WAL are zstd in any case.
	Compression repo.Compression

	// UpgradedFrom is the consent to go on with another cluster in a repository: the system identifier of the one that it
	// belongs to, of which pg_upgrade, or a dump and restore, has made this one. From then on the repository belongs to
	// this one, its backup is a full one, and what it holds of the other can still be restored. It says nothing where the
	// repository belongs to this cluster already, and consents to nothing where it belongs to a third, so it may stay
	// set. The default, 0, consents to nothing: another cluster is a *[wal.ForeignError], which has what to give here.
	UpgradedFrom uint64

	// Rate bounds how much is read from the source, in bytes a second, of all jobs together and without bursts. The
	// default, 0, is no bound.
	Rate int64

	// Spread spreads the checkpoint that the backup begins with over checkpoint_completion_target, to spare the server.
	// The default has it at once.
	Spread bool

	// Labels are kept in the manifest: names and values, of 4 KiB together at most.
	Labels map[string]string

	// Progress, when set, is told how far the backup has come. It is called from Take's own goroutine, a few times a
	// second, and not after Take has returned.
	Progress func(Progress)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// ClockError means that this host's clock is before the newest backup's begin: it was set back, then or now. Backups
// would come out of order.
type ClockError struct {
	Now    time.Time
	Newest ID
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("backup: the clock says %s, which is before the newest backup %s was begun: set the clock",
		e.Now.UTC().Format(time.RFC3339), e.Newest)
}

// maxLabels bounds labels in bytes, so that a summary stays within its bound whatever JSON makes of them.
const maxLabels = 4 << 10

// LeaseName is the lease that a backup holds, see [repo.Repo.WithLease]. Whoever deletes what no manifest names holds it
// too: while a backup is in progress its packs look the same.
const LeaseName = "backup"

// Take backs up a source. When it returns nil the backup is committed, and the repository holds every segment of WAL
// from its start to its stop, so that it can be restored whatever comes later. When it fails, or ctx is cancelled, no
// backup is listed, and the server is left without a backup in progress.
//
// A backup takes over what killed ones have stored, as far as it would store just the same, and tells how much
// (ReusedBytes). It reads all that it would read without. A full one looks for what was left since the last full one; a
// difference for what was left since the last backup of any type, and where the repository is encrypted and the host has
// a state directory, for what this host has left.
//
// One backup at a time: another that runs is a *[repo.LeaseError]. The error is a *[wal.ForeignError] when the
// repository belongs to another cluster and Options.UpgradedFrom does not consent, a *[PromotedError] when the source is a
// standby and a promotion came in between, and a *[MissingWALError] when a segment is lost.
func Take(ctx context.Context, r *repo.Repo, s Source, o *Options) (*Manifest, error) {
	if o == nil {
		o = &Options{}
	}
	t := &taker{repo: r, options: *o, log: o.Logger}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.options.Type == "" {
		t.options.Type = Full
	}
	if !slices.Contains([]Type{Full, Differential, Incremental, Auto}, t.options.Type) {
		return nil, fmt.Errorf("backup: unknown type %q", t.options.Type)
	}
	if !slices.Contains([]Method{"", ByIndex, BySummary, ByLSN, ByCompare}, t.options.Method) {
		return nil, fmt.Errorf("backup: unknown method %q", t.options.Method)
	}
	if _, err := repo.ParseCompression(string(t.options.Compression)); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	labels := 0
	for name, value := range t.options.Labels {
		labels += len(name) + len(value)
	}
	if labels > maxLabels {
		return nil, fmt.Errorf("backup: labels of %d bytes, at most %d are allowed", labels, maxLabels)
	}
	err := r.WithLease(ctx, LeaseName, func(ctx context.Context, l *repo.Lease) error { return t.take(ctx, s, l) })
	if err != nil {
		return nil, err
	}
	return &t.manifest, nil
}

type taker struct {
	repo     *repo.Repo
	archive  *wal.Archive // of the source's cluster, once that is known
	upgraded bool         // the repository has just come to belong to it
	options  Options
	log      *slog.Logger
	manifest Manifest
	speed    speed.Meter

	collector *collector  // nil before it is known what is to be done
	warned    atomic.Bool // that notes of packs cannot be kept
}

// connected is a session that reads files by connections, of which there are so many.
type connected interface{ connections() int }

// connections is by how many connections a session reads files; 0 is by none.
func connections(s Session) int {
	if s, ok := s.(connected); ok {
		return s.connections()
	}
	return 0
}

func (t *taker) take(ctx context.Context, s Source, l *repo.Lease) (err error) {
	id, there, err := t.newID(ctx)
	if err != nil {
		return err
	}
	t.progress("start")
	session, err := s.Begin(ctx, BeginOptions{Label: "pgcairn " + string(id), Spread: t.options.Spread})
	if err != nil {
		return err
	}
	defer session.Close()
	if t.options.Jobs <= 0 {
		t.options.Jobs = runtime.GOMAXPROCS(0)
		t.options.Jobs = max(t.options.Jobs, connections(session))
	}
	start := session.Start()
	if err := t.claim(ctx, start); err != nil {
		return err
	}
	// Once a server sends files it cannot be asked for anything else, and where they are read by connections, all that it
	// permits may be in use.
	_, listed := session.(Lister)
	beside := listed && connections(session) == 0
	if !beside {
		if err := t.name(ctx, session); err != nil {
			return err
		}
	}
	w, err := t.plan(ctx, id, session, there)
	if err != nil {
		return err
	}
	c := w.collector
	c.compression = t.options.Compression
	c.pace = pace.New(t.options.Rate, t.repo.Now)
	c.keepNotes = func(key string, notes []byte) { t.keepNotes(ctx, key, notes) }
	if c.dataKey, err = t.repo.DataKey(ctx); err != nil {
		return err
	}
	t.collector = c
	committing := false // from then on the packs may be those of a backup, whatever the error
	defer func() {
		if err != nil && !committing {
			t.discard(context.WithoutCancel(ctx), l, c)
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	if beside {
		g.Go(func() error { return t.name(gctx, session) })
	}
	if err := t.read(gctx, session, w.produce); err != nil { // here, where progress is told
		g.Go(func() error { return err }) // unless the names have failed before
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := c.sort(); err != nil {
		return err
	}
	t.progress("stop")
	stop, err := session.Stop(ctx)
	if err != nil {
		return err
	}
	if err := t.fill(stop, w.directories()); err != nil {
		return err
	}
	if c.diff.hasLeft() {
		t.log.InfoContext(ctx, "taken over from killed backups", "bytes", t.manifest.ReusedBytes, "stored", t.manifest.StoredBytes)
	}
	t.progress("wal")
	if err := t.secureWAL(ctx, session); err != nil {
		return err
	}
	if err := t.judgePages(ctx, session); err != nil {
		return err
	}
	if err := t.manifest.check(); err != nil {
		return err
	}
	t.progress("commit")
	if err := t.stillThere(ctx, c.taken); err != nil {
		return err
	}
	if err := l.Confirm(ctx); err != nil {
		return err
	}
	committing = true
	if err := t.manifest.store(ctx, t.repo); err != nil {
		return err
	}
	if err := t.foundation(ctx, c.taken); err != nil {
		return err
	}
	t.keepCopy(ctx, there)
	t.forgetNotes(ctx, id, c.taken)
	return nil
}

// foundation makes sure, once the manifest is there, that nobody who did not hold the lease has deleted what it builds on
// before he could see it. Whoever deletes packs reads the manifests after he has deleted some, and before he deletes packs:
// so if the base is there now, its packs stay. Those that were taken over are in no manifest but this: for them, only his
// lease tells him that he is late.
func (t *taker) foundation(ctx context.Context, taken []PackPieces) error {
	err := t.stillThere(ctx, taken)
	if base := t.manifest.Parent; err == nil && base != "" {
		err = t.isListed(ctx, base)
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	return errors.Join(err, t.repo.Store().Delete(ctx, t.manifest.ID.manifestKey()))
}

// isListed makes sure that there is a backup, by a listing: a host that only writes may not be permitted to ask for it.
func (t *taker) isListed(ctx context.Context, id ID) error {
	for info, err := range t.repo.Store().List(ctx, id.manifestKey()) {
		if err != nil {
			return fmt.Errorf("backup: look for what this one builds on: %w", err)
		}
		if info.Key == id.manifestKey() {
			return nil
		}
	}
	return fmt.Errorf("backup: %s, which this one builds on, was deleted meanwhile by somebody without the lease %q: try again", id, LeaseName)
}

// name asks for the names of what there is.
func (t *taker) name(ctx context.Context, s Session) (err error) {
	if s, ok := s.(Cataloger); ok {
		t.manifest.Catalog, err = s.Catalog(ctx)
	}
	return err
}

// discardTime bounds how long discarding may hold up a caller who has cancelled.
const discardTime = 20 * time.Second

// discard deletes the objects of a backup that has failed, while the lease is held for certain: once another has it, he
// may have taken them over.
func (t *taker) discard(ctx context.Context, l *repo.Lease, c *collector) {
	if c.nextPack.Load() == 0 && !c.serverManifest {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, discardTime)
	defer cancel()
	err := l.Confirm(ctx)
	if err == nil {
		err = c.discard(ctx)
	}
	if err != nil {
		t.log.WarnContext(ctx, "objects of a backup that failed are left behind", "backup", c.id, "error", err)
		return
	}
	t.forgetNotes(ctx, c.id, nil)
}

// newID makes an ID that sorts after those there are, which it returns too.
func (t *taker) newID(ctx context.Context) (id ID, there []ID, err error) {
	now := t.repo.Now()
	var newest ID
	for info, err := range t.repo.Store().List(ctx, manifests) {
		if err != nil {
			return "", nil, fmt.Errorf("backup: list backups: %w", err)
		}
		newest = ID(strings.TrimPrefix(info.Key, manifests))
		there = append(there, newest)
	}
	if newest != "" {
		at, err := newest.Time()
		if err != nil {
			return "", nil, &repo.CorruptError{Key: newest.manifestKey(), Err: err}
		}
		if now.Before(at) {
			return "", nil, &ClockError{Now: now, Newest: newest}
		}
	}
	return newID(now, newest), there, nil
}

// read has the work done by workers, and shows progress meanwhile.
func (t *taker) read(ctx context.Context, s Session, produce producer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- t.collector.run(ctx, s, t.options.Jobs, produce) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-result:
			return err
		case <-tick.C:
			t.progress("read")
		}
	}
}

func (t *taker) progress(phase string) {
	if t.options.Progress == nil {
		return
	}
	p := Progress{Phase: phase}
	if c := t.collector; c != nil {
		p.ReadBytes, p.Stored, p.Files = c.read.Load(), c.stored.Load(), c.count()
		p.Total = max(p.ReadBytes, c.total)
	}
	if phase == "read" {
		p.Rate, p.Remaining = t.speed.Measure(t.repo.Now(), p.ReadBytes, p.Total)
	}
	t.options.Progress(p)
}

// fill puts together the manifest.
func (t *taker) fill(stop Stop, dirs []string) error {
	start := t.collector.start
	label, err := pgfile.ParseLabel(stop.Label)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if label.StartLSN != start.LSN.String() {
		return fmt.Errorf("backup: the server's label begins at %s, the backup at %s", label.StartLSN, start.LSN)
	}
	if stop.LSN <= start.LSN {
		return errors.New("backup: the server says that the backup stopped before it began")
	}
	m := &t.manifest
	m.Summary = Summary{
		ID: t.collector.id, Kind: "base", Type: m.Type, Parent: m.Parent, Method: m.Method, Reason: m.Reason,
		SystemID: start.SystemID, PGVersion: start.PGVersion, Timeline: wal.Timeline(label.Timeline),
		StartLSN: start.LSN, StopLSN: stop.LSN, StartedAt: start.Time.UTC(), StoppedAt: stop.Time.UTC(),
		Labels:   maps.Clone(t.options.Labels),
		PageSize: start.PageSize, WALSegmentSize: start.WALSegmentSize, DataChecksums: start.Checksums,
	}
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	m.Label, m.TablespaceMap, m.Control = stop.Label, stop.TablespaceMap, stop.Control
	m.Tablespaces, m.Directories = start.Tablespaces, dirs
	t.collector.fill(m, stop.LSN)
	return nil
}
