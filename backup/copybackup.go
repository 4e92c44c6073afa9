package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// errLeftOut means that a backup is not copied, and that it has been noted why.
var errLeftOut = errors.New("left out")

// copyBackup copies a backup: packs, then the WAL up to where it is consistent, then the manifest.
func (c *copier) copyBackup(ctx context.Context, id ID) error {
	err := c.tryBackup(ctx, id)
	switch {
	case err == nil:
		c.result.Backups = append(c.result.Backups, id)
	case errors.Is(err, errLeftOut):
		return nil
	}
	return err
}

func (c *copier) tryBackup(ctx context.Context, id ID) error {
	m, err := Load(ctx, c.from, id)
	if errors.Is(err, fs.ErrNotExist) {
		return c.expired(id)
	}
	if err != nil {
		return c.leaveOut(id.manifestKey(), err, id)
	}
	if err := c.check(ctx, m.SystemID, m.Timeline); err != nil {
		return err
	}
	// It is not being dropped any more: without a mark, retention leaves alone what is new.
	if err := c.to.Store().Delete(ctx, DroppedKey(id)); err != nil && !errors.Is(err, repo.ErrRefused) {
		return fmt.Errorf("backup: %w", err)
	}
	if err := c.renew(ctx, m); err != nil {
		return err
	}
	resized, err := c.copyPacks(ctx, m)
	if err != nil {
		return err
	}
	if err := c.copyWALOf(ctx, m); err != nil {
		return err
	}
	if err := c.walReads(ctx, m); err != nil {
		return err
	}
	key := serverManifests + string(id)
	if err := c.renewServerManifest(ctx, key); err != nil {
		return err
	}
	_, err = repo.CopyObject(ctx, c.from, c.to, key, c.copyOptions(ctx, nil))
	if err == nil {
		c.objects.Add(1)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		// No restore needs it.
		if err := c.excuse(key, err, ""); err != nil {
			return err
		}
	}
	if err := c.lease.Confirm(ctx); err != nil {
		return err
	}
	if err := c.commit(ctx, m, resized); err != nil {
		return err
	}
	if err := c.foundation(ctx, m); err != nil {
		return err
	}
	c.objects.Add(1)
	return nil
}

// leaveOut takes note of why a backup is not copied, which is errLeftOut; or returns the error, when it is not the source's.
func (c *copier) leaveOut(key string, err error, id ID) error {
	if err := c.excuse(key, err, id); err != nil {
		return err
	}
	return errLeftOut
}

func (c *copier) expired(id ID) error {
	c.result.Expired = append(c.result.Expired, id)
	return errLeftOut
}

// missing decides what it means that an object is not there: that the backup has been deleted, or else that it is damaged.
func (c *copier) missing(ctx context.Context, key string, m *Manifest) error {
	_, err := c.from.Store().Stat(ctx, m.ID.manifestKey())
	if errors.Is(err, fs.ErrNotExist) {
		return c.expired(m.ID)
	}
	if err != nil {
		return fmt.Errorf("backup: look for %s: %w", m.ID, err)
	}
	return c.leaveOut(key, absent(key, "though backup "+string(m.ID)+" needs it"), m.ID)
}

// copyPacks copies the packs of a backup that the other repository lacks, and fills in the sizes that they have there; it
// returns whether these are others.
func (c *copier) copyPacks(ctx context.Context, m *Manifest) (resized bool, err error) {
	var lacking []*repo.Pack
	for i := range m.PackList {
		p := &m.PackList[i].Pack
		if known := c.problems[p.Key]; known != nil {
			return false, c.leaveOut(p.Key, known.Err, m.ID)
		}
		size, ok, err := c.has(ctx, p.Key)
		if err != nil {
			return false, c.leaveOut(p.Key, err, m.ID)
		}
		switch {
		case !ok:
			lacking = append(lacking, p)
			c.total.Add(p.Size)
		default:
			err := c.sizes.check(ctx, p.Key, p.Size, size)
			if errors.Is(err, fs.ErrNotExist) {
				return false, c.missing(ctx, p.Key, m)
			}
			if err != nil {
				return false, c.leaveOut(p.Key, err, m.ID)
			}
			resized = resized || size != p.Size
			p.Size = size
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.options.Jobs)
	var lost, other atomic.Pointer[string] // keys of a pack that is not there, and of one of another size
	for _, p := range lacking {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			size, err := c.copyPack(gctx, *p)
			if errors.Is(err, fs.ErrNotExist) {
				lost.Store(&p.Key)
				return errLeftOut
			}
			if err != nil {
				return c.leaveOut(p.Key, err, m.ID)
			}
			if size != p.Size {
				other.Store(&p.Key)
			}
			p.Size = size
			return nil
		})
	}
	err = g.Wait()
	if key := lost.Load(); key != nil && errors.Is(err, errLeftOut) {
		err = c.missing(ctx, *key, m)
	}
	return resized || other.Load() != nil, err
}

// copyPack copies a pack, and returns the size of the copy.
func (c *copier) copyPack(ctx context.Context, p repo.Pack) (int64, error) {
	copied, err := repo.CopyPack(ctx, c.from, c.to, p, c.copyOptions(ctx, nil))
	if errors.Is(err, fs.ErrExist) {
		// A copy that was taken for dead has written it meanwhile. The key says which pack it is.
		info, err := c.to.Store().Stat(ctx, p.Key)
		if err != nil {
			return 0, fmt.Errorf("backup: copy: look for %s: %v", p.Key, err) //nolint:errorlint // its absence is no answer
		}
		return info.Size, c.sizes.check(ctx, p.Key, p.Size, info.Size)
	}
	if err != nil {
		return 0, fmt.Errorf("backup: copy: %w", err)
	}
	c.objects.Add(1)
	c.keys.fit(p.Key)
	id, _, _ := parsePackKey(p.Key)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.folders[id][p.Key] = copied.Size
	return copied.Size, nil
}

// has tells whether the other repository has a pack, and its size there.
func (c *copier) has(ctx context.Context, key string) (size int64, ok bool, err error) {
	id, _, ok := parsePackKey(key)
	if !ok {
		// Nor would any other object be safe from a forged manifest.
		return 0, false, &repo.CorruptError{Key: key, Err: errors.New("a manifest names it as a pack")}
	}
	there := c.folders[id]
	if there == nil {
		if there, err = c.listPacks(ctx, id); err != nil {
			return 0, false, fmt.Errorf("backup: copy: %w", err)
		}
		c.folders[id] = there
	}
	size, ok = there[key]
	return size, ok, nil
}

// copyWALOf copies the WAL up to where a backup is consistent, and all that is lacking before it: so at any time the WAL
// has no gap behind the oldest backup.
func (c *copier) copyWALOf(ctx context.Context, m *Manifest) error {
	x := m.copyFrom(true)
	n := sort.Search(len(c.files), func(i int) bool { return !c.wal.Before(c.files[i], x) })
	if err := c.copyWAL(ctx, n); err != nil {
		return err
	}
	if p := c.problems[c.wal.HistoryKey(m.SystemID, m.Timeline)]; p != nil {
		return c.leaveOut(p.Key, p.Err, m.ID)
	}
	for s := m.FirstSegment(); s.Number <= m.LastSegment().Number; s = s.Next() {
		key, holds := c.wal.SegmentKey(m.SystemID, s), c.wal.Holds(m.SystemID, s)
		if p := c.problems[key]; p != nil && (p.Destination || !holds) {
			return c.leaveOut(p.Key, p.Err, m.ID)
		}
		if !holds {
			return c.missing(ctx, key, m)
		}
	}
	return nil
}

// commit writes the manifest: as it is, or with other sizes of packs where encryption has changed them.
func (c *copier) commit(ctx context.Context, m *Manifest, resized bool) error {
	key := m.ID.manifestKey()
	if !resized {
		_, err := repo.CopyObject(ctx, c.from, c.to, key, c.copyOptions(ctx, nil))
		if errors.Is(err, fs.ErrNotExist) {
			return c.expired(m.ID)
		}
		if err != nil {
			return c.leaveOut(key, fmt.Errorf("backup: copy %s: %w", m.ID, err), m.ID)
		}
		return nil
	}
	head, err := c.head(ctx, m.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return c.expired(m.ID)
	}
	if err != nil {
		return c.leaveOut(key, err, m.ID)
	}
	_, err = c.to.Put(ctx, key, nil, func(w io.Writer) error { return m.encodeAfter(w, head) })
	if err != nil {
		return fmt.Errorf("backup: copy %s: %w", m.ID, err)
	}
	return nil
}

// head reads the first line of a manifest as it is: it may have members that this version does not know.
func (c *copier) head(ctx context.Context, id ID) ([]byte, error) {
	obj, err := c.from.OpenFront(ctx, id.manifestKey(), frontSize)
	if err != nil {
		return nil, fmt.Errorf("backup: copy %s: %w", id, err)
	}
	defer obj.Close()
	line, err := readLine(bufio.NewReader(obj), maxHeadLine)
	if err != nil {
		return nil, fmt.Errorf("backup: copy %s: %w", id, err)
	}
	return slices.Clone(line), nil
}
