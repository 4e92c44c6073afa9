package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
)

// Options are the options of [NewPlan]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// OrphanGrace is for how long what killed backups have left is kept, so that the next ones can take it over. The
	// default is a day. It counts from when an object was stored, by the store's clock; what a dropped backup has written is
	// deleted with it, however young.
	OrphanGrace time.Duration

	// GiveUp are backups whose manifest cannot be read, as a *[backup.UnreadableError] says, and never will be: it is
	// deleted, and what nobody else needs of theirs is left over from then on.
	GiveUp []backup.ID

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
	repo    *repo.Repo
	needs   *backup.Needs // of repo
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
// It reads the head of every manifest, the packs that it names, and the time of the oldest and newest commit of each stretch
// of WAL; where the repository is encrypted, an identity is needed. A manifest that cannot be read, and is not given up, is
// a *[backup.UnreadableError], since what it needs is not known, and a policy that cannot be meant is a *[PolicyError]. While
// another retention deletes, it may be [ErrStale]. Backups that somebody uses, see [backup.Use], are kept.
func NewPlan(ctx context.Context, r *repo.Repo, p Policy, o *Options) (*Plan, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	plan := &Plan{At: r.Now(), policy: p, repo: r, needs: backup.NewNeeds(r)}
	if o != nil {
		plan.options = *o
	}
	if plan.options.OrphanGrace <= 0 {
		plan.options.OrphanGrace = 24 * time.Hour
	}
	if plan.options.Logger == nil {
		plan.options.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := gather(ctx, r, plan)
	if err != nil {
		return nil, err
	}
	for _, id := range plan.options.GiveUp {
		if c.givenUp[id] == nil {
			return nil, fmt.Errorf("retention: backup %s is not one whose manifest cannot be read: nothing is given up", id)
		}
	}
	if plan.Decision, err = c.decide(p, plan.At, c.inUse()); err != nil {
		return nil, err
	}
	plan.Delete, err = plan.find(ctx, r, c)
	return plan, err
}

func (d *Deletion) add(info repo.Info) {
	d.objects = append(d.objects, info)
	d.Objects++
	d.Bytes += info.Size
}

// doomed is what is to be deleted of a kind.
func (p *Plan) doomed(kind string) []repo.Info {
	for _, d := range p.Delete {
		if d.Kind == kind {
			return d.objects
		}
	}
	return nil
}

// dropped are the backups that the plan drops.
func (p *Plan) dropped() map[backup.ID]bool {
	ids := map[backup.ID]bool{}
	for _, v := range p.Drop {
		ids[v.Backup] = true
	}
	return ids
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
