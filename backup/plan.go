package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
		return t.planSent(ctx, id, s, from, base, reason)
	case Lister:
		return t.planListed(ctx, id, s, from, base, reason)
	}
	return planned{}, errors.New("backup: the source's session neither lists its files nor sends them")
}

// planListed plans to read the files of a Lister.
func (t *taker) planListed(ctx context.Context, id ID, s Session, from Lister, base *Manifest, reason string) (planned, error) {
	entries, dirs, err := listEntries(ctx, from)
	if err != nil {
		return planned{}, err
	}
	var d *difference
	todo := all(entries)
	if base == nil {
		t.full(ctx, reason)
	} else {
		blocks, err := t.buildOn(ctx, s, base)
		if err != nil {
			return planned{}, err
		}
		d, todo = subtract(base, entries, s.Start(), blocks, t.manifest.Method)
	}
	c := newCollector(t.repo, id, s.Start(), entries, d, todo)
	return planned{c, c.units, func() []string { return dirs }}, nil
}

// planSent plans to receive what a Streamer's server sends.
func (t *taker) planSent(ctx context.Context, id ID, s Session, from Streamer, base *Manifest, reason string) (planned, error) {
	m, wish := &t.manifest, t.options.Method
	asked := base
	if wish != "" && wish != BySummary {
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
	var d *difference
	switch {
	case base == nil:
		t.full(ctx, reason)
	case sending.Difference:
		t.difference(base)
		m.Method = BySummary
	default:
		if r.blocks, err = t.buildOn(ctx, s, base); err != nil {
			return planned{}, err
		}
		if m.Reason == "" && m.Method != wish {
			m.Reason = sending.Reason
		}
	}
	if base != nil {
		d = newDifference(base, m.Method)
		r.frames = newBaseFrames(base, func(path string) bool {
			_, isLogged := logged(path)
			return !isLogged || m.Method == ByCompare
		})
	}
	r.c = newCollector(t.repo, id, s.Start(), nil, d, work{})
	r.c.total = sending.Total
	return planned{r.c, r.run, r.directories}, nil
}

// full notes that the backup is a full one, and if it was to be another, why.
func (t *taker) full(ctx context.Context, reason string) {
	t.manifest.Type, t.manifest.Reason = Full, reason
	if reason != "" {
		t.log.WarnContext(ctx, "the backup is a full one", "reason", reason)
	}
}

// difference notes that the backup builds on another.
func (t *taker) difference(base *Manifest) {
	m := &t.manifest
	m.Parent = base.ID
	if m.Type = t.options.Type; m.Type == Auto {
		m.Type = Incremental
	}
}

// buildOn finds out what has changed since a base, and notes how.
func (t *taker) buildOn(ctx context.Context, s Session, base *Manifest) (blocks *wal.Blocks, err error) {
	t.difference(base)
	m := &t.manifest
	if blocks, m.Method, m.Reason, err = t.findChanged(ctx, s, base); err != nil {
		return nil, err
	}
	t.log.InfoContext(ctx, "the backup builds on another", "parent", base.ID, "method", m.Method)
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
