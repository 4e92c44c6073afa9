package backup

import (
	"context"
	"errors"
	"io/fs"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"golang.org/x/sync/errgroup"
)

// begin finds out where the WAL begins that is to be copied, unless it is all of it.
func (c *copier) begin(ctx context.Context, ids []ID) error {
	all := ids
	if !c.options.OnlyConsistent {
		all = c.options.Backups // the WAL of those that are there already goes on
	}
	for _, id := range all {
		s, err := loadSummary(ctx, c.from, id)
		if errors.Is(err, fs.ErrNotExist) {
			s, err = loadSummary(ctx, c.to, id)      // it has been copied before
			var closed interface{ WriteOnly() bool } // an error of a Cipher
			if errors.As(err, &closed) {             // a copy needs no identity there
				c.log.WarnContext(ctx, "the source has a backup no more, and the copy of it cannot be read here: its WAL is not copied on", "backup", id, "error", err)
				continue
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has expired meanwhile
		}
		if err != nil {
			if err := c.excuse(id.manifestKey(), err, id); err != nil {
				return err
			}
			continue
		}
		c.begins = append(c.begins, s.copyFrom(c.options.OnlyConsistent))
	}
	return nil
}

func (s *Summary) copyFrom(only bool) wal.CopyFrom {
	return wal.CopyFrom{SystemID: s.SystemID, First: s.FirstSegment(), Stop: s.StopLSN, Only: only}
}

// listWAL finds out which WAL is to be copied.
func (c *copier) listWAL(ctx context.Context) (err error) {
	if c.wal, err = wal.NewCopier(ctx, c.from, c.to); err != nil {
		return err
	}
	c.files, c.done = nil, 0
	if len(c.begins) > 0 || len(c.options.Backups) == 0 && !c.options.OnlyConsistent {
		if c.files, err = c.wal.Files(ctx, c.begins...); err != nil {
			return err
		}
	}
	for _, err := range c.wal.Strange() {
		if err := c.excuse("", err, ""); err != nil {
			return err
		}
	}
	total := c.read.Load()
	for _, f := range c.files {
		total += f.Size
	}
	c.total.Store(total)
	return nil
}

// copyWAL copies files up to the n-th. They are committed one after the other, so that there is no gap when the copy is
// cut short: a recovery to the end of the WAL would be refused for it.
func (c *copier) copyWAL(ctx context.Context, n int) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.options.Jobs)
	before := make(chan struct{})
	close(before)
	for ; c.done < n && gctx.Err() == nil; c.done++ {
		f := c.files[c.done]
		if err := c.check(gctx, f.System.ID, f.Segment.Timeline); err != nil {
			g.Go(func() error { return err })
			break
		}
		turn, next := before, make(chan struct{})
		before = next
		g.Go(func() error {
			wait := func() error {
				select {
				case <-turn:
					return nil
				case <-gctx.Done():
					return gctx.Err()
				}
			}
			err := c.copyFile(gctx, f, wait)
			if err == nil {
				err = wait() // what was not copied has had its turn as well
			}
			if err == nil {
				close(next)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// copyFile copies a file of WAL, or takes note of why it cannot be.
func (c *copier) copyFile(ctx context.Context, f wal.Stored, turn func() error) error {
	err := c.wal.Copy(ctx, f, c.copyOptions(ctx, turn))
	if err == nil {
		c.objects.Add(1)
		c.keys.fit(f.Key)
		if f.Kind == wal.StoredSegment {
			c.segments.Add(1)
		}
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		// It has expired, or is a piece of a segment that is complete now.
		c.gone.Store(c.gone.Load() || f.Kind == wal.StoredPiece)
		if f.Kind == wal.StoredSegment {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.skipped = append(c.skipped, f)
		}
		return nil
	}
	return c.excuse(f.Key, err, "")
}

// holes takes note of the segments that were deleted from the source before they were copied, where later ones were copied
// nevertheless: these are needed by backups that come with them, but an older one cannot be recovered that far any more.
func (c *copier) holes() error {
	for _, f := range c.skipped {
		if !c.wal.Parts(f.System.ID, f.Segment) {
			continue // it has come after all, or the WAL begins behind it
		}
		err := absent(f.Key, "since it was deleted while it was to be copied: in the copy, recovery from before segment "+f.Segment.Name()+" ends there")
		if err := c.excuse(f.Key, err, ""); err != nil {
			return err
		}
	}
	return nil
}

// check refuses a timeline of which the other repository has other WAL, and takes note of what it finds damaged.
func (c *copier) check(ctx context.Context, system uint64, t wal.Timeline) error {
	k := timelineOf{system, t}
	if c.checked[k] {
		return nil
	}
	damaged, err := c.wal.Check(ctx, system, t)
	if err != nil {
		return err
	}
	for _, d := range damaged {
		corrupt := d.Err
		if d.There {
			corrupt = &repo.CorruptError{Key: d.Key, Err: &damagedThereError{"it is damaged: " + d.Err.Err.Error()}}
		}
		if err := c.excuse(d.Key, corrupt, ""); err != nil {
			return err
		}
	}
	c.checked[k] = true
	return nil
}

// copyOptions bound the rate and count.
func (c *copier) copyOptions(ctx context.Context, turn func() error) *repo.CopyOptions {
	return &repo.CopyOptions{Turn: turn, Pass: func(n int) error {
		c.read.Add(int64(n))
		return c.pace.Wait(ctx, n)
	}}
}
