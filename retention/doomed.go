package retention

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// find lists what is to be deleted, in that order.
func (p *Plan) find(ctx context.Context, r *repo.Repo, c *catalogue) ([]Deletion, error) {
	manifests, err := p.findManifests(ctx, r)
	if err != nil {
		return nil, err
	}
	content, leftovers, err := p.findContent(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.findLeases(ctx, r, c, &leftovers); err != nil {
		return nil, err
	}
	if err := p.findMarks(ctx, r, c, &leftovers); err != nil {
		return nil, err
	}
	segments := Deletion{Kind: WAL}
	for _, a := range c.archives {
		if err := p.findWAL(ctx, a, &segments); err != nil {
			return nil, err
		}
	}
	return []Deletion{manifests, content, leftovers, segments}, nil
}

func (p *Plan) findManifests(ctx context.Context, r *repo.Repo) (Deletion, error) {
	d, sizes := Deletion{Kind: Manifests}, map[string]repo.Info{}
	if len(p.Drop) == 0 {
		return d, nil
	}
	for info, err := range r.Store().List(ctx, "backups/") {
		if err != nil {
			return d, fmt.Errorf("retention: list backups: %w", err)
		}
		sizes[info.Key] = info
	}
	for _, v := range p.Drop { // oldest first: what is kept longest is dropped last
		if info, ok := sizes["backups/"+string(v.Backup)]; ok {
			d.add(info)
		}
	}
	return d, nil
}

// findContent finds what only dropped backups need, and what no backup does.
func (p *Plan) findContent(ctx context.Context) (content, leftovers Deletion, err error) {
	content, leftovers = Deletion{Kind: Content}, Deletion{Kind: Leftovers}
	for o, err := range p.needs.Orphans(ctx, p.dropped()) {
		if err != nil {
			return content, leftovers, fmt.Errorf("retention: %w", err)
		}
		switch info := (repo.Info{Key: o.Key, Size: o.Size, ModTime: o.ModTime}); {
		case o.Dropped:
			content.add(info)
		case p.old(info):
			leftovers.add(info)
		}
	}
	return content, leftovers, nil
}

// old tells whether the grace is over of what somebody may have left behind.
func (p *Plan) old(info repo.Info) bool { return info.ModTime.Before(p.At.Add(-p.options.OrphanGrace)) }

// findLeases finds pins of backups that there are not, old probes, and leases of users that have released them.
func (p *Plan) findLeases(ctx context.Context, r *repo.Repo, c *catalogue, d *Deletion) error {
	kept := map[string]bool{}
	for _, v := range p.Keep {
		kept[string(v.Backup)] = true
	}
	for info, err := range r.Store().List(ctx, "probe/") {
		if err != nil {
			return fmt.Errorf("retention: list probe/: %w", err)
		}
		if p.old(info) {
			d.add(info)
		}
	}
	pins := map[string][]repo.Info{}
	for info, err := range r.Store().List(ctx, "pins/") {
		if err != nil {
			return fmt.Errorf("retention: list pins/: %w", err)
		}
		if of := strings.Split(info.Key, "/")[1]; !kept[of] {
			pins[of] = append(pins[of], info)
		}
	}
	for _, of := range slices.Sorted(maps.Keys(pins)) {
		// The last counts, and says that it is pinned no more. It goes alone, lest one before it be left and count.
		records := pins[of]
		if n := len(records); n > 1 {
			records = records[:n-1]
		}
		for _, info := range records {
			if p.old(info) {
				d.add(info)
			}
		}
	}
	for info, err := range r.Store().List(ctx, "leases/"+backup.UseLease) {
		if err != nil {
			return fmt.Errorf("retention: list leases: %w", err)
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(info.Key, "leases/"+backup.UseLease), ".")
		if _, used := c.users[backup.ID(id)]; !used && p.old(info) {
			d.add(info)
		}
	}
	return nil
}

// findMarks finds the marks of backups that a run before has dropped, and no more: what they needed goes with this one.
func (p *Plan) findMarks(ctx context.Context, r *repo.Repo, c *catalogue, d *Deletion) error {
	for info, err := range r.Store().List(ctx, backup.DroppedKey("")) {
		if err != nil {
			return fmt.Errorf("retention: list what is being dropped: %w", err)
		}
		if !slices.ContainsFunc(c.backups, func(b *backup.Summary) bool { return backup.DroppedKey(b.ID) == info.Key }) {
			d.add(info)
		}
	}
	return nil
}

// findWAL finds what is held of the WAL to drop, and what is known of segments that are not kept.
func (p *Plan) findWAL(ctx context.Context, a *wal.Archive, d *Deletion) error {
	sys, err := a.System(ctx)
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	for o, err := range a.Stored(ctx) {
		if err != nil {
			return fmt.Errorf("retention: %w", err)
		}
		doomed := false
		switch {
		case o.Kind == wal.StoredHistory: // these tell what timelines there were, and stay
		case o.Read():
			doomed = slices.ContainsFunc(p.DropWAL, func(span Span) bool { return span.Has(sys.ID, o.Segment) })
		default: // it is in no span by itself; what is new may be of a timeline that was not there yet
			doomed = p.old(o.Info) && !slices.ContainsFunc(p.WAL, func(span Span) bool { return span.overlaps(sys.ID, o.Segment, o.Last()) })
		}
		if doomed {
			d.add(o.Info)
		}
	}
	return nil
}
