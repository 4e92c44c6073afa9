package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Options are the options of [NewPlan]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// OrphanGrace is for how long what killed backups have left is kept, so that the next ones can take it over. The
	// default is a day. It counts from when an object was stored, by the store's clock; what a dropped backup has written is
	// deleted with it, however young.
	OrphanGrace time.Duration

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// ErrStale means that the repository is not what it was when the plan was made: a backup was taken, dropped or pinned, or is
// used, or what was to go is needed. Nothing was deleted. Make a new plan.
var ErrStale = errors.New("retention: the repository has changed since the plan was made: make a new one")

// Plan is what a policy means for a repository: a [Decision], and what it takes to carry it out. It marshals to JSON and
// prints itself.
type Plan struct {
	Decision

	// At is the time that the policy was applied to.
	At time.Time

	// Delete is what is to be deleted, in that order.
	Delete []Deletion

	policy  Policy
	options Options
	needs   *backup.Needs
}

// What is deleted.
const (
	Manifests = "backups"    // the backups themselves: without its manifest there is none
	Content   = "content"    // packs that no other backup needs
	Leftovers = "left-overs" // of killed backups, of users of backups that are gone, and of pins
	WAL       = "wal"        // segments, what there is of incomplete ones, and what was known of them
)

// Deletion is a kind of objects to be deleted.
type Deletion struct {
	Kind    string `json:"kind"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"` // as stored

	objects []repo.Info
}

// NewPlan finds out what a policy means for a repository. It deletes nothing: a dry run is not to call [Plan.Apply].
//
// It reads the head of every manifest, the packs that it names, and the time of the oldest and newest commit of each stretch of WAL; where the
// repository is encrypted, an identity is needed. A manifest that cannot be read is an error, since what it needs is not
// known, and a policy that cannot be meant is a *[PolicyError]. While another retention deletes, it may be [ErrStale]. Backups that somebody uses, see [backup.Use], are kept.
func NewPlan(ctx context.Context, r *repo.Repo, p Policy, o *Options) (*Plan, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	plan := &Plan{At: r.Now(), policy: p, needs: backup.NewNeeds(r)}
	if o != nil {
		plan.options = *o
	}
	if plan.options.OrphanGrace <= 0 {
		plan.options.OrphanGrace = 24 * time.Hour
	}
	if plan.options.Logger == nil {
		plan.options.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := gather(ctx, r, p, plan.needs)
	if err != nil {
		return nil, err
	}
	if plan.Decision, err = c.decide(p, plan.At, c.inUse()); err != nil {
		return nil, err
	}
	plan.Delete, err = plan.doomed(ctx, r, c)
	return plan, err
}

// doomed lists what is to be deleted.
func (p *Plan) doomed(ctx context.Context, r *repo.Repo, c *catalogue) ([]Deletion, error) {
	manifests, err := p.doomedManifests(ctx, r)
	if err != nil {
		return nil, err
	}
	content, leftovers, err := p.doomedContent(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.doomedLeases(ctx, r, c, &leftovers); err != nil {
		return nil, err
	}
	segments := Deletion{Kind: WAL}
	for _, a := range c.archives {
		if err := p.doomedWAL(ctx, a, &segments); err != nil {
			return nil, err
		}
	}
	return []Deletion{manifests, content, leftovers, segments}, nil
}

func (d *Deletion) add(info repo.Info) {
	d.objects = append(d.objects, info)
	d.Objects++
	d.Bytes += info.Size
}

// dropped are the backups that the plan drops.
func (p *Plan) dropped() map[backup.ID]bool {
	ids := map[backup.ID]bool{}
	for _, v := range p.Drop {
		ids[v.Backup] = true
	}
	return ids
}

func (p *Plan) doomedManifests(ctx context.Context, r *repo.Repo) (Deletion, error) {
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

// doomedContent finds what only dropped backups need, and what no backup does.
func (p *Plan) doomedContent(ctx context.Context) (content, leftovers Deletion, err error) {
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

// doomedLeases finds pins of backups that there are not, old probes, and leases of users that have released them.
func (p *Plan) doomedLeases(ctx context.Context, r *repo.Repo, c *catalogue, d *Deletion) error {
	kept := map[string]bool{}
	for _, v := range p.Keep {
		kept[string(v.Backup)] = true
	}
	for _, prefix := range []string{"pins/", "probe/"} {
		for info, err := range r.Store().List(ctx, prefix) {
			if err != nil {
				return fmt.Errorf("retention: list %s: %w", prefix, err)
			}
			if of := strings.Split(info.Key, "/")[1]; p.old(info) && !kept[of] {
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

// doomedWAL finds what is held of the WAL to drop, and what is known of segments that are not kept.
func (p *Plan) doomedWAL(ctx context.Context, a *wal.Archive, d *Deletion) error {
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

// Bytes is how many bytes there are to be deleted, as stored.
func (p *Plan) Bytes() (sum int64) {
	for _, d := range p.Delete {
		sum += d.Bytes
	}
	return sum
}

// MarshalJSON implements json.Marshaler.
func (p *Plan) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Decision
		At     time.Time  `json:"at"`
		Delete []Deletion `json:"delete"`
		Bytes  int64      `json:"bytes"`
	}{p.Decision, p.At.UTC(), p.Delete, p.Bytes()})
}

// String is for a person to read before it is done.
func (p *Plan) String() string {
	var b strings.Builder
	for _, v := range p.Keep {
		fmt.Fprintf(&b, "keep %s: %s\n", v.Backup, strings.Join(v.Reasons, "; "))
	}
	for _, v := range p.Drop {
		fmt.Fprintf(&b, "drop %s: %s\n", v.Backup, strings.Join(v.Reasons, "; "))
	}
	for _, f := range p.Floors {
		fmt.Fprintf(&b, "keep WAL of timeline %d from %s on\n", f.Segment.Timeline, f.Segment)
	}
	for _, d := range p.Delete {
		if d.Objects > 0 {
			fmt.Fprintf(&b, "delete %d objects of %s, %d bytes\n", d.Objects, d.Kind, d.Bytes)
		}
	}
	return b.String()
}
