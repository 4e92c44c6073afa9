package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pgcairn/pgcairn/wal"
)

// foundation makes sure, once the manifest is there, that nobody has deleted what it needs before he could see it: a copy
// that was suspended until its lease expired is as one without. Whoever deletes packs reads the manifests before, so what
// is there now stays. WAL is deleted by what they said some time ago: so it stays where nobody has taken the lease over
// until the manifest was there to be read.
func (c *copier) foundation(ctx context.Context, m *Manifest) error {
	err := c.packsThere(ctx, m)
	if err == nil {
		err = c.walThere(ctx, m)
	}
	if err == nil {
		err = c.lease.Confirm(ctx)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("backup: copy %s: %w", m.ID, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	return errors.Join(err, c.to.Store().Delete(ctx, m.ID.manifestKey()))
}

func (c *copier) packsThere(ctx context.Context, m *Manifest) error {
	var there map[string]int64
	last := ID("")
	for i := range m.PackList { // in the order of the keys, and so of the backups
		p := &m.PackList[i]
		id, _, _ := parsePackKey(p.Key)
		if there == nil || id != last {
			var err error
			if there, err = c.listPacks(ctx, id); err != nil {
				return err
			}
			last = id
		}
		if size, ok := there[p.Key]; !ok || size != p.Size {
			return deletedMeanwhile(p.Key)
		}
	}
	return nil
}

func (c *copier) walThere(ctx context.Context, m *Manifest) error {
	var segments []wal.Segment
	for s := m.FirstSegment(); s.Number <= m.LastSegment().Number; s = s.Next() {
		segments = append(segments, s)
	}
	return each(ctx, c.options.Jobs, segments, func(ctx context.Context, s wal.Segment) error {
		key := c.wal.SegmentKey(m.SystemID, s)
		_, err := c.to.Store().Stat(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return deletedMeanwhile(key)
		}
		if err != nil {
			return fmt.Errorf("look for %s: %w", key, err)
		}
		return nil
	})
}

func deletedMeanwhile(key string) error {
	return fmt.Errorf("%s, which it needs, was deleted meanwhile from the repository to copy to: try again, and let nobody delete there without the lease %q", key, LeaseName)
}

// listPacks lists the packs of a backup that the other repository has, with their sizes.
func (c *copier) listPacks(ctx context.Context, id ID) (map[string]int64, error) {
	there := map[string]int64{}
	for info, err := range c.to.Store().List(ctx, packFolder+string(id)+"/") {
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
		there[info.Key] = info.Size
	}
	return there, nil
}
