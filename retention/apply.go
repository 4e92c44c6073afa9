package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// Result is what was done of a plan.
type Result struct {
	Dropped []backup.ID `json:"dropped"` // backups that are gone, oldest first

	// Deleted is what was deleted, of each kind. A versioned bucket keeps it until its own rules say otherwise.
	Deleted    []Deletion `json:"deleted"`
	FreedBytes int64      `json:"freed_bytes"`

	// Refused is what the store does not permit to delete: for want of a permission, or since it is locked. Of a backup
	// that is in it, everything stays.
	Refused []Refusal `json:"refused"`

	// Postponed says why nothing but manifests was deleted, or no WAL, if that is so. Another run sees to the rest.
	Postponed string `json:"postponed,omitempty"`

	Took time.Duration `json:"-"`
}

// Refusal is an object that may not be deleted.
type Refusal struct {
	Key    string `json:"key"`
	Reason string `json:"reason"` // in the store's words
}

// Apply carries the plan out. It holds the leases [backup.RetentionLease] and [backup.LeaseName], so that while a backup is
// taken or another retention goes on it is a *[repo.LeaseError]. When the repository is not what it was, it is [ErrStale]; that
// WAL was archived since does not matter, and neither does that this plan was applied before. Where this host's clock is well
// ahead of the store's it is a *[ClockError]. With either nothing was deleted.
//
// What is deleted is what the plan says, and what a plan made now would say: first the manifests of backups, oldest first;
// then what no manifest that is there needs; then WAL. So whenever it is killed, or fails, each backup that is listed
// restores, and another run does the rest.
// The Result is never nil, and tells what was done before an error. What the store refuses to delete is no error.
func (p *Plan) Apply(ctx context.Context, r *repo.Repo) (*Result, error) {
	a := &apply{repo: r, plan: p, result: &Result{Dropped: []backup.ID{}, Refused: []Refusal{}}}
	if p.repo == nil {
		return a.result, errors.New("retention: this is no plan: NewPlan makes one")
	}
	if p.repo != r { // opened anew with other credentials; or a copy, of which something else may be missing
		plan := *p
		plan.repo, plan.needs = r, backup.NewNeeds(r)
		a.plan = &plan
	}
	begun := r.Now()
	err := r.WithLease(ctx, backup.RetentionLease, func(ctx context.Context, one *repo.Lease) error {
		return r.WithLease(ctx, backup.LeaseName, func(ctx context.Context, other *repo.Lease) error {
			a.leases = []*repo.Lease{one, other}
			return a.run(ctx)
		})
	})
	for _, d := range a.result.Deleted {
		a.result.FreedBytes += d.Bytes
	}
	a.result.Took = r.Now().Sub(begun)
	return a.result, err
}

// apply is a plan being carried out.
type apply struct {
	repo   *repo.Repo
	plan   *Plan
	leases []*repo.Lease
	result *Result
}

func (a *apply) run(ctx context.Context) error {
	c, err := gather(ctx, a.repo, a.plan)
	if err != nil {
		return err
	}
	if err := a.clock(ctx, c.backups); err != nil {
		return err
	}
	now, err := a.again(ctx, c, c.inUse())
	if err != nil {
		return err
	}
	if err := a.plan.stale(now); err != nil {
		return err
	}
	if err := a.confirm(ctx); err != nil {
		return err
	}
	stay, err := a.drop(ctx, c, now.doomed(Manifests))
	if err != nil {
		return err
	}
	for id := range c.givenUp {
		if stay[id] != "" {
			a.result.Postponed = fmt.Sprintf("backup %s was given up, and may not be deleted: what it may need stays", id)
			return nil
		}
	}
	if postponed, err := a.used(ctx, c, now); err != nil || postponed {
		return err
	}
	if len(stay) > 0 { // and what they need with them
		if now, err = a.again(ctx, c, stay); err != nil {
			return err
		}
	}
	// What is needed is asked once more, now that the manifests are gone: by then, whoever has taken a backup without our
	// lease, which we may have lost and not know, has seen that what he built on is gone, or we see his manifest.
	if err := a.confirm(ctx); err != nil {
		return err
	}
	orphans := map[string]bool{}
	for o, err := range a.plan.needs.Orphans(ctx, nil) {
		if err != nil {
			return fmt.Errorf("retention: %w", err)
		}
		orphans[o.Key] = true
	}
	if err := a.delete(ctx, Content, now.doomed(Content), func(key string) bool { return orphans[key] }); err != nil {
		return err
	}
	isContent := func(key string) bool {
		return strings.HasPrefix(key, "packs/") || strings.HasPrefix(key, "server-manifests/")
	}
	if err := a.delete(ctx, Leftovers, now.doomed(Leftovers), func(key string) bool { return orphans[key] || !isContent(key) }); err != nil {
		return err
	}
	if err := a.unmark(ctx); err != nil {
		return err
	}
	if err := a.confirm(ctx); err != nil {
		return err
	}
	if postponed, err := a.come(ctx, c, now); err != nil || postponed {
		return err
	}
	return a.delete(ctx, WAL, now.doomed(WAL), func(string) bool { return true })
}

// come tells whether there is a backup that was not there when it was decided which WAL goes: one who was suspended, and
// whose lease was taken over for that, may have committed it, and it needs WAL.
func (a *apply) come(ctx context.Context, c *catalogue, now *Plan) (bool, error) {
	known := map[string]bool{}
	for _, b := range c.backups {
		known[string(b.ID)] = true
	}
	for _, id := range a.result.Dropped {
		delete(known, string(id))
	}
	for info, err := range a.repo.Store().List(ctx, "backups/") {
		if err != nil {
			return false, fmt.Errorf("retention: list backups: %w", err)
		}
		if id := strings.TrimPrefix(info.Key, "backups/"); !known[id] {
			a.result.Postponed = fmt.Sprintf("backup %s has come meanwhile: all WAL stays", id)
			now.options.Logger.WarnContext(ctx, "retention postponed", "reason", a.result.Postponed)
			return true, nil
		}
	}
	return false, nil
}

// again makes a plan anew of what there is now, as of the same time, for no more than the plan says.
func (a *apply) again(ctx context.Context, c *catalogue, stay map[backup.ID]string) (*Plan, error) {
	now := *a.plan
	var err error
	if now.Decision, err = c.decide(now.policy, now.At, stay); err != nil {
		return nil, err
	}
	if now.Delete, err = now.find(ctx, a.repo, c); err != nil {
		return nil, err
	}
	for i, found := range now.Delete {
		asked := map[string]bool{}
		for _, info := range a.plan.doomed(found.Kind) {
			asked[info.Key] = true
		}
		now.Delete[i] = Deletion{Kind: found.Kind}
		for _, info := range found.objects {
			if asked[info.Key] {
				now.Delete[i].add(info)
			}
		}
	}
	return &now, nil
}

// stale tells whether the backups are not those that the plan is of, or others of them are to be kept.
func (p *Plan) stale(now *Plan) error {
	keep, drop := map[backup.ID]bool{}, p.dropped()
	for _, v := range p.Keep {
		keep[v.Backup] = true
	}
	for _, v := range now.Keep {
		if !keep[v.Backup] {
			return fmt.Errorf("%w: backup %s is to be kept by now", ErrStale, v.Backup)
		}
		delete(keep, v.Backup)
	}
	for _, v := range now.Drop {
		if !drop[v.Backup] {
			return fmt.Errorf("%w: backup %s is not to be kept any more", ErrStale, v.Backup)
		}
	}
	for id := range keep {
		return fmt.Errorf("%w: backup %s is gone", ErrStale, id)
	}
	return nil
}

// confirm makes sure that nobody has taken the leases over.
func (a *apply) confirm(ctx context.Context) error {
	for _, l := range a.leases {
		if err := l.Confirm(ctx); err != nil {
			return fmt.Errorf("retention: %w", err)
		}
	}
	return nil
}

// drop deletes manifests, and returns of which backups it may not, with everything else that is to stay.
func (a *apply) drop(ctx context.Context, c *catalogue, manifests []repo.Info) (stay map[backup.ID]string, err error) {
	stay = map[backup.ID]string{}
	done := Deletion{Kind: Manifests}
	defer func() { a.result.Deleted = append(a.result.Deleted, done) }()
	for _, info := range manifests { // one by one: deciding anew in between would decide the same
		id := backup.ID(strings.TrimPrefix(info.Key, "backups/"))
		// One who may not create marks has what he leaves taken for what a killed backup has left.
		if err := a.plan.needs.Mark(ctx, id); err != nil && !errors.Is(err, repo.ErrRefused) {
			return nil, fmt.Errorf("retention: %w", err)
		}
		if err := a.hold(); err != nil {
			return nil, err
		}
		err := a.repo.Store().Delete(ctx, info.Key)
		switch {
		case errors.Is(err, repo.ErrRefused):
			a.result.Refused = append(a.result.Refused, Refusal{info.Key, err.Error()})
			stay[id] = "may not be deleted"
			_ = a.repo.Store().Delete(ctx, backup.DroppedKey(id)) // which says nothing while there is a manifest
		case err != nil:
			return nil, fmt.Errorf("retention: delete %s: %w", info.Key, err)
		default:
			a.result.Dropped = append(a.result.Dropped, id)
			done.add(info)
		}
	}
	if len(stay) > 0 {
		for id, why := range c.inUse() {
			stay[id] = why
		}
	}
	return stay, nil
}

// unmark deletes the marks of backups of which nothing is left.
func (a *apply) unmark(ctx context.Context) error {
	for _, id := range a.result.Dropped {
		if err := a.repo.Store().Delete(ctx, backup.DroppedKey(id)); err != nil && !errors.Is(err, repo.ErrRefused) {
			return fmt.Errorf("retention: %w", err)
		}
	}
	return nil
}

// used tells whether somebody has begun to use a backup that he was not known to use when it was decided what goes: all
// that it needs has to stay. It may have been dropped by this run, or by one before.
func (a *apply) used(ctx context.Context, c *catalogue, now *Plan) (bool, error) {
	by, err := users(ctx, a.repo)
	if err != nil {
		return false, err
	}
	kept := map[backup.ID]bool{}
	for _, v := range now.Keep {
		kept[v.Backup] = true
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		_, known := c.users[id]
		if kept[id] && known {
			continue
		}
		a.result.Postponed = fmt.Sprintf("backup %s is in use by %s: its content and its WAL stay", id, describeUser(by[id]))
		now.options.Logger.WarnContext(ctx, "retention postponed", "reason", a.result.Postponed)
		return true, nil
	}
	return false, nil
}

// ClockError means that this host's clock is not the store's: what a policy keeps by its age would go too early.
type ClockError struct {
	Now, Store time.Time
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("retention: this host's clock says %s and the store's %s: set the clock; nothing was deleted",
		e.Now.UTC().Format(time.RFC3339), e.Store.UTC().Format(time.RFC3339))
}

// maxSkew is by how much this host's clock may be ahead of the store's.
const maxSkew = 90 * time.Minute

// clock compares clocks, by a lease that was just confirmed. A store of whose clock all backups are of the future, as one
// for tests may be, tells nothing; one backup is what this host may have taken just now, by the same clock.
func (a *apply) clock(ctx context.Context, all []*backup.Summary) error {
	if err := a.confirm(ctx); err != nil {
		return err
	}
	now := a.repo.Now()
	held, err := a.repo.Leases(ctx, backup.RetentionLease)
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	for _, l := range held {
		odd := !slices.ContainsFunc(all, func(b *backup.Summary) bool { return !b.StoppedAt.After(l.Renewed.Add(maxSkew)) })
		if l.Name == backup.RetentionLease && now.Sub(l.Renewed) > maxSkew && !odd {
			return &ClockError{Now: now, Store: l.Renewed}
		}
	}
	if a.plan.At.After(now) {
		return fmt.Errorf("%w: it is of %s, which is to come", ErrStale, a.plan.At.UTC().Format(time.RFC3339))
	}
	return nil
}

// hold makes sure that a host which was stopped for a while does not go on to delete.
func (a *apply) hold() error {
	for _, l := range a.leases {
		if l.Left() <= 0 {
			return fmt.Errorf("retention: %w", repo.ErrLeaseLost)
		}
	}
	return nil
}

// delete deletes the objects of a kind that are still to be.
func (a *apply) delete(ctx context.Context, kind string, doomed []repo.Info, still func(key string) bool) error {
	done := Deletion{Kind: kind}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0)) // mostly waits for the store
	for _, info := range doomed {
		if gctx.Err() != nil {
			break
		}
		if !still(info.Key) {
			continue
		}
		g.Go(func() error {
			if err := a.hold(); err != nil {
				return err
			}
			err := a.repo.Store().Delete(gctx, info.Key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, repo.ErrRefused) && strings.HasPrefix(info.Key, backup.DroppedKey("")):
				// A mark: there is nothing that it keeps.
			case errors.Is(err, repo.ErrRefused):
				a.result.Refused = append(a.result.Refused, Refusal{info.Key, err.Error()})
			case err != nil:
				return fmt.Errorf("retention: delete %s: %w", info.Key, err)
			default:
				done.add(info)
			}
			return nil
		})
	}
	err := g.Wait()
	a.result.Deleted = append(a.result.Deleted, done)
	if err == nil {
		err = ctx.Err()
	}
	return err
}
