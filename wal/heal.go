package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// HealOptions are the options of [Archives.Heal]. A nil *HealOptions, and the zero value of each field, is its default.
type HealOptions struct {
	// PGData is the data directory of the cluster. What its pg_wal still has, just as another archive holds it, is taken
	// from there, which takes no identity where repositories are encrypted, and no download. By default all is fetched.
	PGData string

	// MaxAge bounds what counts as owed: what an archive was given longer ago, by the clock of its store, another is not
	// given any more, since retention may have dropped it there: see Healed.TooOld. The default is 7 days.
	MaxAge time.Duration

	// Jobs is how many files are brought at a time to each archive, 4 by default.
	Jobs int
}

// Healed is what an archive was brought.
type Healed struct {
	Name    string // of the member
	Owed    int    // files that it lacked, and others had; without those that all have deleted meanwhile
	Brought int    // of those
	// TooOld is how many segments it lacks that others were given before MaxAge, after the first that it holds of their
	// timeline or an earlier one: holes, which recovery from this archive alone does not get over. They are not owed, since
	// retention makes such holes too, where it keeps only what old backups need. Where it has not, a larger MaxAge brings
	// them.
	TooOld int
	// Err is why it could not be asked, or the first of the files could not be brought, in order: the others were tried.
	Err error
}

// Heal brings to each archive what another holds and it lacks: after an outage longer than pg_wal remembers, and where a
// push was content with fewer ([ArchivesOptions]). What is owed is told by listing the archives, so it costs as much as
// [Archive.Coverage] of each, and nothing needs to be remembered: call it after outages, now and then, and as often as
// you like.
//
// An archive is not given segments from before the first that it holds of their timeline or an earlier one, which
// retention may have dropped. Where archives hold other content under one name, that is never changed, and not looked for.
//
// The results are those of the members, in their order. The error is nil when none lacks anything any more, that the
// others have and MaxAge does not exclude.
func (s *Archives) Heal(ctx context.Context, o *HealOptions) ([]Healed, error) {
	if o == nil {
		o = &HealOptions{}
	}
	h := healer{options: *o}
	if h.options.MaxAge <= 0 {
		h.options.MaxAge = 7 * 24 * time.Hour
	}
	if h.options.Jobs <= 0 {
		h.options.Jobs = 4
	}
	h.all = ofEach(ctx, s, "list an archive", func(i int) holding {
		var one holding
		one.err = one.list(ctx, s.members[i])
		return one
	}, func(_ int, err error) holding { return holding{err: err} })
	h.agree()
	healed := ofEach(ctx, s, "heal an archive", func(i int) Healed {
		one := Healed{Name: s.members[i].Name, Err: h.all[i].err}
		if one.Err == nil {
			h.heal(ctx, &h.all[i], &one)
		}
		return one
	}, func(i int, err error) Healed { return Healed{Name: s.members[i].Name, Err: err} })
	var failed together
	for _, one := range healed {
		if one.Err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", one.Name, one.Err))
		}
	}
	if len(failed) > 0 {
		return healed, fmt.Errorf("wal: heal %d archives: %w", len(healed), failed)
	}
	return healed, nil
}

// holding is what an archive holds.
type holding struct {
	archive *Archive
	system  System // zero where nobody has claimed it
	files   map[Name]time.Time
	first   map[Timeline]string // the first segment of each timeline, by the part of its name that tells the place
	err     error
}

func (h *holding) list(ctx context.Context, m *member) error {
	a, err := m.open(ctx)
	if err != nil {
		return err
	}
	h.archive, h.files, h.first = a, map[Name]time.Time{}, map[Timeline]string{}
	h.system, err = a.System(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for info, err := range a.repo.Store().List(ctx, h.system.prefix()) {
		if err != nil {
			return fmt.Errorf("wal: list the archive: %w", err)
		}
		n, err := h.system.parseKey(info.Key)
		if err != nil {
			continue // of a later version
		}
		h.files[n] = info.ModTime
		if first, ok := h.first[n.Timeline]; n.Kind == KindSegment && (!ok || n.place() < first) {
			h.first[n.Timeline] = n.place()
		}
	}
	return nil
}

// behind tells whether a file comes after a segment that is held of its timeline, or of an earlier one, whose WAL it goes
// on with: then it is no beginning that retention has dropped.
func (h *holding) behind(n Name) bool {
	for t, first := range h.first {
		if t <= n.Timeline && first <= n.place() {
			return true
		}
	}
	return false
}

// healer decides what is owed to whom, and brings it.
type healer struct {
	options HealOptions
	all     []holding
	system  System // of all
}

// agree sees to it that nothing of another cluster is brought to anybody: the first archive counts that can tell.
func (h *healer) agree() {
	for i := range h.all {
		one := &h.all[i]
		if one.err != nil || one.system.ID == 0 {
			continue
		}
		if h.system.ID == 0 {
			h.system = one.system
		}
		if one.system != h.system {
			one.err = &ForeignError{Name: "the archive", Got: one.system.ID, Want: h.system.ID}
		}
	}
}

// owed returns what an archive lacks: histories first, then by name. tooOld is how many segments it lacks besides,
// which are too old, though it holds one from before them.
func (h *healer) owed(to *holding) (_ []Name, tooOld int) {
	since := to.archive.repo.Now().Add(-h.options.MaxAge)
	owed, old := map[Name]bool{}, map[Name]bool{}
	for i := range h.all {
		if from := &h.all[i]; from != to && from.err == nil {
			for n, at := range from.files {
				_, has := to.files[n]
				_, begun := to.first[n.Timeline]
				switch {
				case has, n.Kind != KindHistory && begun && !to.behind(n):
				case n.Kind == KindHistory || !at.Before(since):
					owed[n] = true
				case n.Kind == KindSegment && to.behind(n):
					old[n] = true
				}
			}
		}
	}
	for n := range owed { // another was given it later
		delete(old, n)
	}
	return slices.SortedFunc(maps.Keys(owed), func(a, b Name) int { return cmp.Or(inOrderOfNeed(a, b), cmp.Compare(a.text, b.text)) }), len(old)
}

func (h *healer) heal(ctx context.Context, to *holding, result *Healed) {
	owed, tooOld := h.owed(to)
	result.Owed, result.TooOld = len(owed), tooOld
	if len(owed) == 0 {
		return
	}
	if result.Err = to.archive.Claim(ctx, owed[0].String(), h.system); result.Err != nil {
		return
	}
	errs := make([]error, len(owed))
	var brought, gone atomic.Int64
	var g errgroup.Group
	g.SetLimit(h.options.Jobs)
	for i, n := range owed {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			switch errs[i] = h.bring(ctx, to, n); {
			case errs[i] == nil:
				brought.Add(1)
			case errors.Is(errs[i], errGone):
				errs[i] = nil
				gone.Add(1)
			}
			return nil
		})
	}
	_ = g.Wait() // each has its own
	result.Brought = int(brought.Load())
	result.Owed -= int(gone.Load())
	result.Err = ctx.Err()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		result.Err = errs[i]
	}
}

// errGone is what comes of a file that was listed, and was deleted since, as by retention.
var errGone = errors.New("wal: it is gone")

// bring brings a file to an archive: from pg_wal where that has just this, else from the first that can read it. The error
// is errGone when none has it any more.
func (h *healer) bring(ctx context.Context, to *holding, n Name) error {
	var failed together
	for i := range h.all {
		from := &h.all[i]
		if _, has := from.files[n]; from == to || from.err != nil || !has {
			continue
		}
		err := h.carry(ctx, from.archive, to.archive, n)
		var conflict *ConflictError
		if err == nil || errors.As(err, &conflict) || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, errGone) {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return errGone
	}
	return &outage{fmt.Errorf("wal: bring %s: %w", n, failed)}
}

func (h *healer) carry(ctx context.Context, from, to *Archive, n Name) error {
	if h.options.PGData != "" {
		if f, err := openFile(filepath.Join(walDir(h.options.PGData), n.String())); err == nil {
			defer f.Close()
			if d, same, err := from.same(ctx, n, f.content); err == nil && same {
				_, err := to.put(ctx, offer{name: n, content: f.content, told: h.system.ID, digest: &d, held: true})
				var recycled *SegmentError
				if !errors.As(err, &recycled) {
					return err
				}
			}
		}
	}
	f, err := toTemp("", func(w io.Writer) error {
		obj, err := from.open(ctx, h.system, n)
		if errors.Is(err, fs.ErrNotExist) {
			return errGone
		}
		if err != nil {
			return err
		}
		defer obj.obj.Close()
		return obj.copyTo(w)
	})
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := fileSize(f)
	if err != nil {
		return err
	}
	_, err = to.put(ctx, offer{name: n, content: io.NewSectionReader(f, 0, size), told: h.system.ID, held: true})
	return err
}

func fileSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("wal: %w", err)
	}
	return info.Size(), nil
}
