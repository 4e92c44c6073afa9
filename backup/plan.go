package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/pgcairn/pgcairn/wal"
)

// producer cuts the work into tasks.
type producer func(ctx context.Context, tasks chan<- task) error

// planned is how a backup is to be taken.
type planned struct {
	collector   *collector
	produce     producer
	directories func() []string // known once everything is produced
}

// plan finds out what to build on and what remains to be done, and notes both in the manifest.
func (t *taker) plan(ctx context.Context, id ID, s Session, there []ID) (planned, error) {
	base, reason, err := t.chooseBase(ctx, s.Start(), there)
	if err != nil {
		return planned{}, err
	}
	switch from := s.(type) {
	case Streamer:
		return t.planSent(ctx, id, s, from, there, base, reason)
	case Lister:
		return t.planListed(ctx, id, s, from, there, base, reason)
	}
	return planned{}, errors.New("backup: the source's session neither lists its files nor sends them")
}

// planListed plans to read the files of a Lister.
func (t *taker) planListed(ctx context.Context, id ID, s Session, from Lister, there []ID, base *Manifest, reason string) (planned, error) {
	entries, dirs, err := listEntries(ctx, from)
	if err != nil {
		return planned{}, err
	}
	var d *difference
	todo, most := all(entries), int64(math.MaxInt64)
	if base == nil {
		t.full(ctx, reason)
	} else {
		blocks, err := t.buildOn(ctx, s, base)
		if err != nil {
			return planned{}, err
		}
		d, todo = subtract(base, entries, s.Start(), blocks, t.manifest.Method)
		most = todo.bytes(entries, d)
	}
	left, err := t.takeOver(ctx, there, id, most)
	if err != nil {
		return planned{}, err
	}
	if left != nil {
		if d == nil {
			d = newDifference(&Manifest{}, "")
		}
		d.findLeft(d.addLeft(left), left.FileList, entries)
	}
	c := newCollector(t.repo, id, s.Start(), entries, d, todo)
	return planned{c, c.units, func() []string { return dirs }}, nil
}

// planSent plans to receive what a Streamer's server sends.
func (t *taker) planSent(ctx context.Context, id ID, s Session, from Streamer, there []ID, base *Manifest, reason string) (planned, error) {
	asked := base
	if wish := t.options.Method; wish != "" && wish != BySummary {
		asked = nil
	}
	sending, err := from.Send(ctx, asked)
	if err != nil {
		return planned{}, err
	}
	if base != nil {
		// It was chosen by what the server said before the backup began.
		if why := unlike(base, s.Start()); why != "" && sending.Difference {
			return planned{}, fmt.Errorf("backup: the server sends the difference to %s, but %s", base.ID, why)
		} else if why != "" {
			base, reason = nil, fmt.Sprintf("it cannot build on %s: %s", base.ID, why)
		}
	}
	r := &receiver{from: from, out: newBatches(t.options.Jobs)}
	switch {
	case base == nil:
		t.full(ctx, reason)
	case sending.Difference:
		t.difference(ctx, base, BySummary)
	default:
		r.changed.start = s.Start()
		r.changed.blocks, err = t.buildOnSent(ctx, s, base, sending.Reason)
	}
	if err != nil {
		return planned{}, err
	}
	var d *difference
	if base != nil {
		d = newDifference(base, t.manifest.Method)
		r.frames = newBaseFrames(base, func(path string) bool {
			_, isLogged := logged(path)
			return !isLogged || d.by == ByCompare
		})
		if d.by == ByLSN {
			r.frames.findHad()
		}
	}
	left, err := t.takeOver(ctx, there, id, math.MaxInt64)
	if err != nil {
		return planned{}, err
	}
	if left != nil {
		if d == nil {
			d = newDifference(&Manifest{}, "")
		}
		dropOverlaps(left.PackList)
		r.left = leftFrames{baseFrames: newBaseFrames(left, func(string) bool { return true }), pack: d.left}
		r.left.first = d.addLeft(left)
	}
	r.c = newCollector(t.repo, id, s.Start(), nil, d, work{})
	r.c.total = sending.Total
	return planned{r.c, r.run, r.directories}, nil
}

// buildOnSent is buildOn for a server that sends everything, for a reason.
func (t *taker) buildOnSent(ctx context.Context, s Session, base *Manifest, reason string) (*wal.Blocks, error) {
	if t.options.Method == BySummary {
		return nil, fmt.Errorf("backup: find what has changed by %s: %s", BySummary, cmp.Or(reason, "the server sends no differences"))
	}
	blocks, err := t.buildOn(ctx, s, base)
	if m := &t.manifest; m.Reason == "" {
		m.Reason = reason
	}
	return blocks, err
}

// full notes that the backup is a full one, and if it was to be another, why.
func (t *taker) full(ctx context.Context, reason string) {
	t.manifest.Type, t.manifest.Reason = Full, reason
	if reason != "" {
		t.log.WarnContext(ctx, "the backup is a full one", "reason", reason)
	}
}

// difference notes that the backup builds on another.
func (t *taker) difference(ctx context.Context, base *Manifest, by Method) {
	m := &t.manifest
	m.Parent, m.Method = base.ID, by
	if m.Type = t.options.Type; m.Type == Auto {
		m.Type = Incremental
	}
	t.log.InfoContext(ctx, "the backup builds on another", "parent", base.ID, "method", by)
}

// buildOn finds out what has changed since a base, and notes how.
func (t *taker) buildOn(ctx context.Context, s Session, base *Manifest) (*wal.Blocks, error) {
	blocks, by, reason, err := t.findChanged(ctx, s, base)
	if err != nil {
		return nil, err
	}
	t.difference(ctx, base, by)
	t.manifest.Reason = reason
	return blocks, nil
}

// listEntries returns the files in ascending order of their paths, and the directories.
func listEntries(ctx context.Context, s Lister) (files []Entry, dirs []string, err error) {
	for e, err := range s.Files(ctx) {
		if err != nil {
			return nil, nil, err
		}
		if e.Dir {
			dirs = append(dirs, e.Path)
		} else {
			files = append(files, e)
		}
	}
	slices.Sort(dirs)
	slices.SortFunc(files, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	if err := checkEntries(files, dirs); err != nil {
		return nil, nil, err
	}
	return files, dirs, nil
}

// checkEntries finds what no manifest could say before hours are spent on reading.
func checkEntries(files []Entry, dirs []string) error {
	for i, f := range files {
		if err := checkPath(f.Path); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		if i > 0 && f.Path == files[i-1].Path {
			return fmt.Errorf("backup: file %q was listed twice", f.Path)
		}
	}
	for i, d := range dirs {
		if err := checkPath(d); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		if i > 0 && d == dirs[i-1] {
			return fmt.Errorf("backup: directory %q was listed twice", d)
		}
	}
	return nil
}
