package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/internal/pace"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"golang.org/x/sync/errgroup"
)

// VerifyOptions are the options of [Verify]. A nil *VerifyOptions, and the zero value of each field, is its default.
type VerifyOptions struct {
	// Backups are the backups to verify, with the WAL that makes them consistent. One that does not exist is an error
	// matching fs.ErrNotExist. The default is the whole repository.
	Backups []ID

	// ReadData reads content: every byte of packs and WAL is decrypted, decompressed and compared with its checksums. By
	// default only what tells of content is read, and the objects that it tells of are looked for, with their sizes.
	ReadData bool

	// MaxAge is for how long content that was found right is not read again. The default is 30 days; less than 0 reads all.
	MaxAge time.Duration

	// Sample bounds how many bytes, as stored, of what is due are read in this run; which of the objects is up to chance. The
	// default, 0, reads all that is due.
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
// tells what was found until then. It is never nil. What the store says about an object is not confused: only its answer that
// there is no such object makes it missing.
//
// A host that cannot decrypt looks at names, sizes and labels, and what it remembers of its own backups; the report says so.
// That a manifest was deleted nobody can tell: then there is no such backup.
//
// It takes some 300 bytes of memory for each object, and a manifest at a time for each job.
func Verify(ctx context.Context, r *repo.Repo, o *VerifyOptions) (*Report, error) {
	if o == nil {
		o = &VerifyOptions{}
	}
	v := newVerifier(r, o)
	err := v.watch(ctx)
	v.report.EndedAt = r.Now()
	if err == nil && !o.NoReceipt {
		v.leaveReceipt(ctx)
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

	checked *checked

	mu       sync.Mutex
	findings map[string]*finding
	gone     []string          // objects that were deleted since they were listed
	under    map[string]string // packs that are encrypted to data keys that are wrong, with these
	known    []*costs
	times    int // how many spans the archive was asked about
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
		history: map[uint64]map[wal.Timeline]wal.History{}, badKeys: map[string]bool{}, keyAt: map[string]string{}, findings: map[string]*finding{}, under: map[string]string{},
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

// each runs f for many, some at a time.
func each[T any](ctx context.Context, jobs int, all []T, f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, x := range all {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return f(ctx, x) })
	}
	return g.Wait()
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

// list takes down what there is. Manifests come before packs, and pieces before the segments that they become.
func (v *verifier) list(ctx context.Context) error {
	prefixes := []string{""}
	if v.chosen != nil {
		prefixes = []string{"keys/", "pieces/", "systems/", "wal/"}
		for id := range v.chosen {
			info, err := v.repo.Store().Stat(ctx, id.manifestKey())
			if err != nil {
				return err
			}
			v.objects[info.Key] = info.Size
		}
	}
	for _, prefix := range prefixes {
		if err := v.listPrefix(ctx, prefix); err != nil {
			return err
		}
	}
	for key := range v.objects {
		if rest, ok := strings.CutPrefix(key, manifests); ok {
			id, err := ParseID(rest)
			if err != nil {
				v.find(key, err, false)
				continue
			}
			v.ids = append(v.ids, id)
		}
	}
	slices.Sort(v.ids)
	return nil
}

func (v *verifier) listPrefix(ctx context.Context, prefix string) error {
	for info, err := range v.repo.Store().List(ctx, prefix) {
		if err != nil {
			return err
		}
		v.objects[info.Key] = info.Size
	}
	return nil
}

// folder returns the keys of the objects in a folder, in order.
func (v *verifier) folder(prefix string) []string {
	var keys []string
	for key := range v.objects {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

const (
	markerKey   = "pgcairn.json"
	leaseFolder = "leases/"
)

// records reads the records: the marker, whom the repository belongs to, receipts, pins and leases. Of a pin of a backup that
// there is not any more nothing is wrong; one that cannot be read keeps all of them from being known.
func (v *verifier) records(ctx context.Context) error {
	keys := append([]string{markerKey}, v.folder("systems/")...)
	keys = slices.Concat(keys, v.folder(receiptFolder), v.folder(pinFolder), v.folder(leaseFolder))
	err := each(ctx, v.waiting(), keys, func(ctx context.Context, key string) error {
		err := v.record(ctx, key)
		if errors.Is(err, fs.ErrNotExist) && key != markerKey && !strings.HasPrefix(key, "systems/") {
			return nil // pruned by another run, or followed by another of its kind
		}
		return v.judge(ctx, key, err)
	})
	if err != nil {
		return err
	}
	n := len(v.folder("systems/"))
	for i := range n {
		key := fmt.Sprintf("systems/%d", i+1)
		if _, ok := v.objects[key]; !ok {
			v.find(key, errGone, true)
		}
	}
	a, err := wal.NewArchive(v.repo, nil)
	if err != nil {
		return err
	}
	v.systems, err = a.Systems(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody's yet
	}
	return v.judge(ctx, "systems/1", err)
}

// record reads a record.
func (v *verifier) record(ctx context.Context, key string) error {
	if !strings.HasPrefix(key, pinFolder) {
		return v.repo.ReadRecord(ctx, key, &struct{}{})
	}
	if _, _, err := parsePinKey(key); err != nil {
		return err
	}
	return v.repo.ReadRecord(ctx, key, &pinRecord{})
}

// dataKeyOf returns the first name that a data key had, by that of an object below keys/ that holds it; or nothing for one
// that does not.
func dataKeyOf(key string) string {
	id, _, _ := strings.Cut(key, ".")
	if !strings.HasSuffix(key, ".age") {
		return ""
	}
	return id + ".age"
}

// dataKeys are the objects that hold a data key, the latest first, by its first name.
func (v *verifier) dataKeys() map[string][]string {
	all := map[string][]string{}
	for _, key := range slices.Backward(v.folder("keys/")) {
		if of := dataKeyOf(key); of != "" {
			all[of] = append(all[of], key)
		}
	}
	return all
}

// keys opens all data keys. Of the objects that hold the same one, it takes one that opens.
func (v *verifier) keys(ctx context.Context) error {
	if !v.repo.Encrypted() {
		return nil
	}
	all := v.dataKeys()
	return each(ctx, v.waiting(), slices.Sorted(maps.Keys(all)), func(ctx context.Context, of string) error {
		failed := map[string]error{}
		for _, key := range all[of] {
			err := v.repo.CheckDataKey(ctx, key)
			var closed *repo.DataKeyError
			var corrupt *repo.CorruptError
			if err != nil && !errors.As(err, &closed) && !errors.As(err, &corrupt) && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			failed[key] = err
		}
		opens := slices.ContainsFunc(all[of], func(key string) bool { return failed[key] == nil })
		for _, key := range all[of] {
			if err := v.judgeKey(ctx, of, key, failed[key], opens); err != nil {
				return err
			}
		}
		return nil
	})
}

// judgeKey decides what it means that an object that holds a data key does not open; opens tells whether another one does.
func (v *verifier) judgeKey(ctx context.Context, of, key string, err error, opens bool) error {
	var closed *repo.DataKeyError
	switch {
	case err == nil:
		return nil
	case opens:
		v.note("%s does not open, and holds a data key that another object holds as well: pgcairn key rotate sees to it (%v)", key, err)
		return nil
	}
	v.mu.Lock()
	v.badKeys[of] = true
	if v.keyAt[of] == "" {
		v.keyAt[of] = key
	}
	if !errors.As(err, &closed) {
		v.mu.Unlock()
		return v.judge(ctx, key, err)
	}
	v.blind = v.blind || closed.WriteOnly()
	v.mu.Unlock()
	if !closed.WriteOnly() {
		v.find(key, fmt.Errorf("it is damaged, or meant for another identity than those given: %w", closed.Err), false)
	}
	return nil
}

// manifests reads all manifests, and takes down which packs they name.
func (v *verifier) manifests(ctx context.Context) error {
	if v.blind {
		v.note("this host has no identity to decrypt with: names, sizes and labels were looked at, and no content")
		v.report.ReadData = false
	}
	unknown := 0
	read := make([]*Summary, len(v.ids))
	err := each(ctx, v.jobs, numbers(len(v.ids)), func(ctx context.Context, i int) error {
		m, err := v.load(ctx, v.ids[i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted since it was listed
		}
		if m == nil && err == nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			unknown++
			return nil
		}
		if m == nil {
			return v.judge(ctx, v.ids[i].manifestKey(), err)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, p := range m.PackList {
			if size, ok := v.needed[p.Key]; ok && size != p.Size {
				v.findLocked(m.ID.manifestKey(), fmt.Errorf("of pack %s it says that it has %d bytes, and another manifest %d", p.Key, p.Size, size))
				continue
			}
			v.needed[p.Key] = p.Size
		}
		s := m.Summary
		read[i] = &s
		return nil
	})
	for _, s := range read {
		if s != nil {
			v.backups = append(v.backups, s)
		}
	}
	v.report.Backups = len(v.backups)
	if unknown > 0 {
		v.note("this host has no copies of the manifests of %s: what these need was not looked for", count(unknown, "backup"))
		v.report.Whole = false
	}
	return err
}

func (v *verifier) findLocked(key string, err error) {
	if v.findings[key] == nil {
		v.findings[key] = &finding{err: err}
	}
}

// load reads a manifest. Where nothing can be decrypted, it is the host's copy; nil is that there is none.
func (v *verifier) load(ctx context.Context, id ID) (*Manifest, error) {
	if !v.blind {
		return Load(ctx, v.repo, id)
	}
	if _, err := v.repo.Label(ctx, id.manifestKey()); err != nil {
		return nil, err
	}
	m, err := copiesOf(v.repo).read(id)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // as documented
	}
	return m, nil
}

func (v *verifier) note(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

// archives takes down what there is of WAL, and reads the histories.
func (v *verifier) archives(ctx context.Context) error {
	for _, b := range v.backups { // also where the record is damaged that tells
		s := wal.System{ID: b.SystemID, SegmentSize: b.WALSegmentSize}
		if !slices.Contains(v.systems, s) {
			v.systems = append(v.systems, s)
		}
	}
	var histories []wal.Stored
	for _, folder := range []string{"pieces/", "wal/", "indexes/"} {
		for _, key := range v.folder(folder) {
			o, err := wal.ParseStored(repo.Info{Key: key, Size: v.objects[key]}, v.systems)
			if err != nil {
				v.find(key, err, false)
				continue
			}
			v.stored[key] = o
			if o.Kind == wal.StoredHistory && !v.blind {
				histories = append(histories, o)
			}
		}
	}
	a, err := wal.NewArchive(v.repo, nil)
	if err != nil {
		return err
	}
	return each(ctx, v.waiting(), histories, func(ctx context.Context, o wal.Stored) error {
		h, err := a.ReadHistory(ctx, o)
		if err != nil {
			return v.judge(ctx, o.Key, err)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.history[o.System.ID] == nil {
			v.history[o.System.ID] = map[wal.Timeline]wal.History{}
		}
		v.history[o.System.ID][h.Timeline] = h
		return nil
	})
}

// presence compares the packs that there are with those that manifests name.
func (v *verifier) presence(ctx context.Context) error {
	if v.chosen != nil {
		folders := map[string]bool{}
		for key := range v.needed {
			folders[key[:strings.LastIndexByte(key, '/')+1]] = true
		}
		for folder := range folders {
			if err := v.listPrefix(ctx, folder); err != nil {
				return err
			}
		}
	}
	for key, size := range v.needed {
		switch have, ok := v.objects[key]; {
		case !ok:
			v.find(key, errGone, true)
		case have != size:
			v.find(key, fmt.Errorf("it has %d bytes, and should have %d", have, size), false)
		}
	}
	for _, key := range v.folder(packFolder) {
		if _, ok := v.needed[key]; !ok && v.chosen == nil && !v.blind {
			v.report.Orphans++
			v.report.OrphanBytes += v.objects[key]
		}
	}
	for key, size := range v.objects {
		if v.counts(key) {
			v.report.Objects++
			v.report.Bytes += size
		}
	}
	return nil
}

// counts tells whether an object is one that is verified.
func (v *verifier) counts(key string) bool {
	if _, ok := v.needed[key]; ok {
		return true
	}
	if _, ok := v.stored[key]; ok {
		return v.chosen == nil || v.makesConsistent(key)
	}
	return key == markerKey || strings.HasPrefix(key, manifests) || strings.HasPrefix(key, "systems/") || strings.HasPrefix(key, "keys/") ||
		strings.HasPrefix(key, serverManifests) || strings.HasPrefix(key, receiptFolder) || strings.HasPrefix(key, pinFolder) ||
		strings.HasPrefix(key, leaseFolder)
}

// makesConsistent tells whether a chosen backup needs an object of the archive to become consistent.
func (v *verifier) makesConsistent(key string) bool {
	o := v.stored[key]
	return slices.ContainsFunc(v.backups, func(b *Summary) bool {
		if o.System.ID != b.SystemID || o.Segment.Timeline != b.Timeline {
			return false
		}
		n := o.Segment.Number
		whole := o.Kind == wal.StoredSegment || o.Kind == wal.StoredPiece
		return o.Kind == wal.StoredHistory || whole && b.FirstSegment().Number <= n && n <= b.LastSegment().Number
	})
}
