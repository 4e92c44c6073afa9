package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// catalogue is what a decision is made of.
type catalogue struct {
	backups  []*backup.Summary
	users    map[backup.ID]backup.User // of backups that are in use, one each
	archives []*wal.Archive            // of the clusters that the repository has belonged to
	coverage []wal.Coverage            // of each

	incomplete map[backup.ID]int // backups that lack packs, and how many

	givenUp map[backup.ID]error // backups that cannot be read, and why
}

// userGrace is for how long after its lease has expired a user counts that may be gone: clocks differ, and to keep
// something for a day costs little.
const userGrace = 24 * time.Hour

// gather reads what there is. A manifest that cannot be read is an error, unless it is given up: what it needs is not known.
func gather(ctx context.Context, r *repo.Repo, p *Plan) (*catalogue, error) {
	c := &catalogue{givenUp: map[backup.ID]error{}}
	var err error
	if c.backups, err = backup.List(ctx, r); err != nil {
		if err = c.giveUp(err, p.options.GiveUp); err != nil {
			return nil, fmt.Errorf("retention: nothing is dropped while a manifest cannot be read: %w", err)
		}
	}
	if err := c.requireUnpinned(ctx, r); err != nil {
		return nil, err
	}
	for id := range c.givenUp {
		p.needs.GiveUp(id)
	}
	if c.incomplete, err = p.needs.Incomplete(ctx); err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	if c.users, err = users(ctx, r); err != nil {
		return nil, err
	}
	for id := range c.givenUp {
		if u, used := c.users[id]; used {
			return nil, fmt.Errorf("retention: backup %s cannot be given up: it is in use by %s", id, describeUser(u))
		}
	}
	first, err := wal.NewArchive(r, nil)
	if err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	systems, err := first.Systems(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("retention: %w", err)
	}
	for _, s := range systems {
		a, err := wal.NewArchive(r, &wal.Options{SystemID: s.ID})
		if err != nil {
			return nil, fmt.Errorf("retention: %w", err)
		}
		held, err := a.Coverage(ctx)
		if err != nil {
			return nil, fmt.Errorf("retention: %w", err)
		}
		if p.policy.KeepWAL > 0 {
			held = inParts(held)
		}
		if err := a.Times(ctx, &held); repo.Unreadable(err) {
			p.options.Logger.InfoContext(ctx, "how old WAL is cannot be told, which is kept where its age decides", "error", err)
		} else if err != nil {
			return nil, whileDeleted(ctx, a, held, err)
		}
		c.archives, c.coverage = append(c.archives, a), append(c.coverage, held)
	}
	return c, nil
}

// giveUp returns what of an error of List is not of backups that are given up.
func (c *catalogue) giveUp(listed error, ids []backup.ID) error {
	unreadable := backup.Unreadable(listed)
	if len(unreadable) == 0 {
		return listed
	}
	var rest []error
	for _, u := range unreadable {
		id := backup.ID(strings.TrimPrefix(u.Key, "backups/"))
		if errors.Is(u, fs.ErrNotExist) || !slices.Contains(ids, id) {
			rest = append(rest, u)
			continue
		}
		c.givenUp[id] = u.Err
	}
	return errors.Join(rest...)
}

// requireUnpinned makes sure that nobody wants to keep what is given up.
func (c *catalogue) requireUnpinned(ctx context.Context, r *repo.Repo) error {
	if len(c.givenUp) == 0 {
		return nil
	}
	pinned, err := backup.Pinned(ctx, r)
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	for id := range c.givenUp {
		if pinned[id] {
			return fmt.Errorf("retention: backup %s cannot be given up: it is pinned: unpin it first", id)
		}
	}
	return nil
}

// whileDeleted tells why WAL could not be read: by another retention, what was listed may be gone.
func whileDeleted(ctx context.Context, a *wal.Archive, listed wal.Coverage, err error) error {
	if now, lerr := a.Coverage(ctx); lerr == nil {
		for _, t := range listed.Timelines {
			for _, r := range t.Ranges {
				if !now.Holds(r.First) {
					return fmt.Errorf("%w: WAL was deleted while it was read: %w", ErrStale, err)
				}
			}
		}
	}
	return fmt.Errorf("retention: %w", err)
}

// users returns who uses backups, one for each.
func users(ctx context.Context, r *repo.Repo) (map[backup.ID]backup.User, error) {
	all, err := backup.Users(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	by := map[backup.ID]backup.User{}
	for _, u := range all {
		if r.Now().Before(u.Expires.Add(userGrace)) {
			by[u.Backup] = u
		}
	}
	return by, nil
}

// partLength is how many segments have times of their own where the age of WAL decides: as many as an index is of.
const partLength = 256

// inParts cuts the ranges of a coverage, so that the age of each part can be told.
func inParts(c wal.Coverage) wal.Coverage {
	for i := range c.Timelines {
		var parts []wal.Range
		for _, r := range c.Timelines[i].Ranges {
			for r.First.Number/partLength < r.Last.Number/partLength {
				part := r
				part.Last.Number = (r.First.Number/partLength+1)*partLength - 1
				parts = append(parts, part)
				r.First = part.Last.Next()
			}
			parts = append(parts, r)
		}
		c.Timelines[i].Ranges = parts
	}
	return c
}

// decide decides, and keeps besides what is to stay for other reasons, by what is said of each.
func (c *catalogue) decide(p Policy, now time.Time, stay map[backup.ID]string) (Decision, error) {
	all, unpinned := make([]*backup.Summary, len(c.backups)), map[backup.ID]bool{}
	for i, b := range c.backups {
		if stay[b.ID] != "" && !b.Pinned {
			held := *b
			held.Pinned, b = true, &held
			unpinned[b.ID] = true
		}
		all[i] = b
	}
	d, err := p.decide(all, c.coverage, now, c.incomplete)
	c.spare(&d)
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(c.givenUp))) {
		d.Drop = slices.Insert(d.Drop, 0, Verdict{id, []string{"given up: " + c.givenUp[id].Error()}})
	}
	for _, v := range d.Keep {
		if !unpinned[v.Backup] {
			continue
		}
		for i, reason := range v.Reasons {
			if rest, ok := strings.CutPrefix(reason, pinned); ok {
				v.Reasons[i] = stay[v.Backup] + rest
			}
		}
	}
	return d, err
}

// spare keeps the WAL that recovery from backups in use reads, however little of it the policy keeps.
func (c *catalogue) spare(d *Decision) {
	for _, b := range c.backups {
		if _, used := c.users[b.ID]; !used {
			continue
		}
		first := b.FirstSegment().Number
		var left []Span
		for _, s := range d.DropWAL { // which have ends
			if s.SystemID == b.SystemID && s.First.Timeline >= b.Timeline && s.Last.Number >= first {
				if s.First.Number >= first {
					continue
				}
				last := *s.Last
				last.Number = first - 1
				s.Last = &last
			}
			left = append(left, s)
		}
		d.DropWAL = append([]Span{}, left...)
	}
}

// inUse says of backups why they stay that somebody uses.
func (c *catalogue) inUse() map[backup.ID]string {
	stay := map[backup.ID]string{}
	for id, u := range c.users {
		stay[id] = "in use by " + describeUser(u)
	}
	return stay
}

func describeUser(u backup.User) string {
	if u.Host == "" {
		return "somebody"
	}
	return fmt.Sprintf("process %d on %s", u.PID, u.Host)
}
