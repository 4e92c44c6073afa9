package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
)

// otherKeyError means that the other repository has an object already, which those who are to read the copy cannot read, or
// others can.
type otherKeyError struct{ key, dataKey, why, do string }

func (e *otherKeyError) Error() string {
	return fmt.Sprintf("%s: in the repository to copy to it is encrypted to %s, %s: %s", e.key, e.dataKey, e.why, e.do)
}

const unfit = "which is retired, or not for just the recipients given now"

// copyKeys tells of objects that the other repository has already whether they are encrypted for those for whom this copy is.
type copyKeys struct {
	to     *repo.Repo
	listed []ID    // backups that the other repository has
	base   packSet // packs that the newest of these names that the source has, too; nil: not read yet

	mu    sync.Mutex
	uses  map[string]repo.KeyUse
	fits  map[string]bool // objects that were looked at, or are copies of this run
	named []packSet       // packs that the manifests there name; nil: not read yet
	blind error           // why one of them could not be read
}

// use tells about the data key of an object.
func (k *copyKeys) use(ctx context.Context, key string) (dataKey string, u repo.KeyUse, err error) {
	if dataKey, err = k.to.DataKeyOf(ctx, key); err != nil {
		return "", u, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	u, known := k.uses[dataKey]
	if !known {
		if u, err = k.to.UseOfKey(ctx, dataKey); err != nil {
			return "", u, fmt.Errorf("in the repository to copy to: %w", notMissing(err))
		}
		k.uses[dataKey] = u
	}
	return dataKey, u, nil
}

func (k *copyKeys) fit(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fits[key] = true
}

// renew deletes packs that a copy which was cut short has left to be read by others than those for whom this one is: they
// are copied anew. What a manifest names stays.
func (c *copier) renew(ctx context.Context, m *Manifest) error {
	if !c.to.Encrypted() {
		return nil
	}
	if err := c.readBase(ctx); err != nil {
		return err
	}
	var left []string
	for i := range m.PackList {
		key := m.PackList[i].Key
		id, n, ok := parsePackKey(key)
		if _, published := slices.BinarySearch(c.keys.listed, id); !ok || published || c.keys.base.has(id, n) || c.keys.fits[key] {
			continue // a pack comes with the backup that it is named after
		}
		_, there, err := c.has(ctx, key)
		if err != nil {
			return c.leaveOut(key, err, m.ID)
		}
		if there {
			left = append(left, key)
		}
	}
	strange := map[string]*otherKeyError{}
	err := each(ctx, 4*c.options.Jobs, left, func(ctx context.Context, key string) error {
		dataKey, u, err := c.keys.use(ctx, key)
		var corrupt *repo.CorruptError
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.As(err, &corrupt):
			return nil // which is found when it is compared
		case err != nil:
			return fmt.Errorf("backup: copy: %w", err)
		case !u.Strange():
			c.keys.fit(key)
			return nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		strange[key] = &otherKeyError{key: key, dataKey: dataKey, why: unfit}
		return nil
	})
	if err != nil || len(strange) == 0 {
		return err
	}
	if err := c.readNamed(ctx); err != nil {
		return err
	}
	if err := c.lease.Confirm(ctx); err != nil {
		return err
	}
	for _, key := range sortedKeys(strange) {
		id, n, _ := parsePackKey(key)
		switch {
		case slices.ContainsFunc(c.keys.named, func(s packSet) bool { return s.has(id, n) }):
			c.keys.fit(key)
		case c.keys.blind != nil:
			strange[key].do = fmt.Sprintf("give an identity of that repository, since not all its manifests can be read, which tell whether a backup needs it (%v)", c.keys.blind)
			return c.leaveOut(key, strange[key], m.ID)
		default:
			if err := c.discard(ctx, key, strange[key]); err != nil {
				return c.leaveOut(key, err, m.ID)
			}
			delete(c.folders[id], key)
		}
	}
	return nil
}

// readBase reads which packs the newest backup names that both repositories have: most of what a next one needs, whose own
// backup may be gone for long.
func (c *copier) readBase(ctx context.Context) error {
	if c.keys.base != nil {
		return nil
	}
	c.keys.base = packSet{}
	for _, id := range slices.Backward(c.keys.listed) {
		keys, err := packKeys(ctx, c.from, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			continue // it is not in the source any more, or cannot be read there
		}
		for _, key := range keys {
			c.keys.base.add(key)
		}
		return nil
	}
	return nil
}

// discard deletes what is to be copied anew.
func (c *copier) discard(ctx context.Context, key string, why *otherKeyError) error {
	if c.lease.Left() <= 0 {
		return fmt.Errorf("backup: copy: %w", repo.ErrLeaseLost)
	}
	err := c.to.Store().Delete(ctx, key)
	if errors.Is(err, repo.ErrRefused) {
		why.do = fmt.Sprintf("no backup there needs it, and it may not be deleted (%v): delete it, and copy again", err)
		return why
	}
	if err != nil {
		return fmt.Errorf("backup: copy: delete %s: %w", key, notMissing(err))
	}
	return nil
}

// readNamed reads which packs the manifests of the other repository name: from the source, where that has them as well,
// since a copy needs no identity of the other one.
func (c *copier) readNamed(ctx context.Context) error {
	if c.keys.named != nil {
		return nil
	}
	c.keys.named = []packSet{}
	for _, id := range c.keys.listed {
		keys, err := packKeys(ctx, c.from, id)
		if err != nil && ctx.Err() == nil {
			keys, err = packKeys(ctx, c.to, id)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			c.keys.blind = err
		}
		s := packSet{}
		for _, key := range keys {
			s.add(key)
		}
		c.keys.named = append(c.keys.named, s)
	}
	return nil
}

// walReads refuses a backup where WAL that makes it consistent was there before, and is not for all those who are to read
// the copy. Such WAL may well be needed by other backups, so that it stays.
func (c *copier) walReads(ctx context.Context, m *Manifest) error {
	if !c.to.Encrypted() {
		return nil
	}
	files := []string{c.wal.HistoryKey(m.SystemID, m.Timeline)}
	for s := m.FirstSegment(); s.Number <= m.LastSegment().Number; s = s.Next() {
		files = append(files, c.wal.SegmentKey(m.SystemID, s))
	}
	files = slices.DeleteFunc(files, func(key string) bool { return c.keys.fits[key] })
	return each(ctx, 4*c.options.Jobs, files, func(ctx context.Context, key string) error {
		dataKey, u, err := c.keys.use(ctx, key)
		var corrupt *repo.CorruptError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a history that there is not, or what foundation finds
		case errors.As(err, &corrupt):
			return c.leaveOut(key, &repo.CorruptError{Key: key, Err: &damagedThereError{"it is damaged: " + corrupt.Err.Error()}}, m.ID)
		case err != nil:
			return fmt.Errorf("backup: copy: %w", err)
		case u.Lost():
			return c.leaveOut(key, &otherKeyError{
				key: key, dataKey: dataKey, why: "which is not for all the recipients given now",
				do: "rotate the keys of that repository (pgcairn key rotate), or delete it there, and copy again",
			}, m.ID)
		}
		c.keys.fit(key)
		return nil
	})
}

// renewServerManifest is renew of what the server says of a backup that is to be copied: no restore needs it.
func (c *copier) renewServerManifest(ctx context.Context, key string) error {
	if !c.to.Encrypted() {
		return nil
	}
	dataKey, u, err := c.keys.use(ctx, key)
	var corrupt *repo.CorruptError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &corrupt), err == nil && !u.Strange():
		return nil
	case err != nil:
		return fmt.Errorf("backup: copy: %w", err)
	}
	if err := c.lease.Confirm(ctx); err != nil {
		return err
	}
	err = c.discard(ctx, key, &otherKeyError{key: key, dataKey: dataKey, why: unfit})
	if err == nil {
		return nil
	}
	return c.excuse(key, err, "")
}
