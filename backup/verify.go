package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/internal/pace"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"golang.org/x/sync/errgroup"
)

// VerifyOptions are the options of [Verify]. A nil *VerifyOptions, and the zero value of each field, is its default.
type VerifyOptions struct {
	// Backups are the backups to verify, with the WAL that makes them consistent, and the data keys of all that. One that does
	// not exist is an error matching fs.ErrNotExist. The default is the whole repository.
	Backups []ID

	// ReadData reads content: every byte of packs and WAL is decrypted, decompressed and compared with its checksums. By
	// default only what tells of content is read, and the objects that it tells of are looked for, with their sizes.
	ReadData bool

	// MaxAge is for how long content that was found right is not read again. The default is 30 days; less than 0 reads all.
	MaxAge time.Duration

	// Sample bounds how many bytes, as stored, of what is due are read in this run; which of the objects is up to chance. One
	// object is read in any case, also where it alone is more. The default, 0, reads all that is due.
	Sample int64

	// Random chooses what a sample is of. The default is different each time.
	Random *rand.Rand

	// KeepWAL says that WAL older than that may be missing between backups, as with KeepWAL of a retention policy: such gaps
	// are told, and are no problems. The default, 0, is that none may.
	KeepWAL time.Duration

	// Jobs is how many objects are read beside each other. The default is the number of processors.
	Jobs int

	// Rate is how many bytes of content, as stored, are read a second, at most. The default, 0, is as fast as it goes.
	Rate int64

	// CheckpointEvery is how often a run takes down what it has read, so that another can go on there. The default is 5
	// minutes.
	CheckpointEvery time.Duration

	// NoReceipt leaves nothing in the repository: neither a [Receipt] nor what was read.
	NoReceipt bool

	// Progress, when set, is told how far Verify has come. It is called from Verify's own goroutine, a few times a second,
	// and not after Verify has returned.
	Progress func(VerifyProgress)

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// VerifyProgress tells how far [Verify] has come.
type VerifyProgress struct {
	Phase        string // "list", "backups", "data", "conclude"
	Objects      int    // whose content was read
	Bytes        int64  // of them, as stored
	TotalObjects int    // that are to be read
	TotalBytes   int64
}

const maxAge = 30 * 24 * time.Hour

// Verify makes sure that what a repository holds can be restored, and tells what cannot. It looks at the repository's own
// records, its keys, all manifests, and whether every object that these name is there, of the right size, and all WAL from
// each backup on; with ReadData, at content as well. What it has read is taken down in the repository, so that the next run
// reads only what is new, or due again; so does one that was killed.
//
// A problem of the repository is in the report and is no error. An error means that Verify could not look: then the report
// tells what was found until then, and of what was damaged there is a receipt. It is never nil. What the store says about an
// object is not confused: only its answer that there is no such object makes it missing.
//
// A host that cannot decrypt looks at names, sizes and labels, whether the data keys are there that manifests are encrypted to,
// and what it remembers of its own backups; the report says so.
// That a manifest was deleted nobody can tell, unless the backup is pinned: then there is no such backup.
//
// It takes some 300 bytes of memory for each object, and a manifest at a time for each job.
func Verify(ctx context.Context, r *repo.Repo, o *VerifyOptions) (*Report, error) {
	if o == nil {
		o = &VerifyOptions{}
	}
	v := newVerifier(r, o)
	err := v.watch(ctx)
	v.report.EndedAt = r.Now()
	switch {
	case o.NoReceipt:
	case err == nil:
		v.leaveReceipt(ctx)
	default:
		v.leaveFound(ctx)
	}
	return v.report, err
}

// verifier is a Verify that is going on.
type verifier struct {
	repo    *repo.Repo
	options VerifyOptions
	log     *slog.Logger
	pace    *pace.Pacer
	jobs    int
	report  *Report

	objects map[string]int64 // that are there, by key, with their sizes
	needed  map[string]int64 // packs, by key, with the sizes that manifests say

	chosen  map[ID]bool // nil: all
	backups []*Summary  // that can be read
	ids     []ID        // whose manifests are there
	systems []wal.System
	stored  map[string]wal.Stored
	history map[uint64]map[wal.Timeline]wal.History // by system identifier
	blind   bool                                    // nothing can be decrypted here
	badKeys map[string]bool                         // data keys of which no object opens, by their first names
	keyAt   map[string]string                       // the object of each that is to blame
	closed  map[string][]closedKey                  // where backups are chosen: the objects of each

	keysThere map[string]bool // data keys, by their first names, where nothing can be decrypted; nil: not looked for yet

	checked *checked

	mu       sync.Mutex
	findings map[string]*finding
	gone     []string          // objects that were deleted since they were listed
	under    map[string]string // packs that are encrypted to data keys that are wrong, with these
	known    []*costs
	commits  map[uint64][]wal.Range // runs of segments of which it is known when they begin, by system identifier
	times    int                    // how many spans the archive was asked about
	progress VerifyProgress
}

// finding is something that is wrong with an object.
type finding struct {
	err     error
	missing bool
}

func newVerifier(r *repo.Repo, o *VerifyOptions) *verifier {
	v := &verifier{
		repo: r, options: *o, log: o.Logger, jobs: o.Jobs, pace: pace.New(o.Rate, r.Now),
		objects: map[string]int64{}, needed: map[string]int64{}, stored: map[string]wal.Stored{},
		history: map[uint64]map[wal.Timeline]wal.History{}, badKeys: map[string]bool{}, keyAt: map[string]string{}, closed: map[string][]closedKey{},
		findings: map[string]*finding{}, under: map[string]string{}, commits: map[uint64][]wal.Range{},
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if v.jobs <= 0 {
		v.jobs = runtime.GOMAXPROCS(0)
	}
	if v.options.MaxAge == 0 {
		v.options.MaxAge = maxAge
	}
	if v.options.Random == nil {
		v.options.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) //nolint:gosec // nobody's secret
	}
	if v.options.CheckpointEvery <= 0 {
		v.options.CheckpointEvery = 5 * time.Minute
	}
	if len(o.Backups) > 0 {
		v.chosen = map[ID]bool{}
		for _, id := range o.Backups {
			v.chosen[id] = true
		}
	}
	v.report = &Report{BeganAt: r.Now(), Whole: v.chosen == nil, ReadData: o.ReadData}
	return v
}

// watch runs the verification, and tells how far it has come.
func (v *verifier) watch(ctx context.Context) error {
	if v.options.Progress == nil {
		return v.run(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- v.run(ctx) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	tell := func() {
		v.mu.Lock()
		p := v.progress
		v.mu.Unlock()
		v.options.Progress(p)
	}
	for {
		select {
		case err := <-done:
			tell()
			return err
		case <-tick.C:
			tell()
		}
	}
}

func (v *verifier) phase(name string) {
	v.mu.Lock()
	v.progress.Phase = name
	v.mu.Unlock()
}

func (v *verifier) run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"list", v.list},
		{"list", v.records},
		{"list", v.keys},
		{"backups", v.manifests},
		{"backups", v.archives},
		{"backups", v.presence},
		{"backups", v.keysOfChosen},
		{"data", v.data},
		{"conclude", v.conclude},
	} {
		v.phase(step.name)
		if err := step.do(ctx); err != nil {
			if len(v.report.Problems) == 0 {
				v.report.conclude(v, nil)
			}
			return fmt.Errorf("backup: verify: %w", err)
		}
	}
	return nil
}

// find takes down that something is wrong. Of several things the first counts.
func (v *verifier) find(key string, err error, missing bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.findings[key] == nil {
		v.findings[key] = &finding{err: err, missing: missing}
	}
}

func (v *verifier) findLocked(key string, err error) {
	if v.findings[key] == nil {
		v.findings[key] = &finding{err: err}
	}
}

func (v *verifier) note(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

var errGone = errors.New("it is missing")

// judge decides what it means that an object could not be read: nil, where that was taken down as a problem, or an error,
// that nothing is known of it.
func (v *verifier) judge(ctx context.Context, key string, err error) error {
	var corrupt *repo.CorruptError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		v.find(key, errGone, true)
		return nil
	case errors.As(err, &corrupt):
		v.find(corrupt.Key, corrupt.Err, false)
		return nil
	case ctx.Err() != nil:
		return err
	}
	if len(v.badKeys) > 0 {
		id, kerr := v.repo.DataKeyOf(ctx, key)
		if kerr == nil && v.badKeys[id] {
			return nil
		}
	}
	return err
}

// each runs f for many, some at a time. That ctx has ended is an error: not all were run then.
func each[T any](ctx context.Context, jobs int, all []T, f func(context.Context, T) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, x := range all {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return f(gctx, x) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// numbers are those from 0 up to n.
func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// waiting is how many small objects are read beside each other: that mostly waits for the store.
func (v *verifier) waiting() int { return 4 * v.jobs }
