package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
)

// Copier copies what one repository holds of the WAL of its clusters to another repository: segments and what there is
// of those that are not complete, histories, notes on base backups, and indexes. Package backup's Copy is made of it.
// It takes some 100 bytes of memory for each file that the other one lacks. It is safe for concurrent use.
type Copier struct {
	from, to *Archive

	mu sync.Mutex // of there
	listing
}

// NewCopier lists what both repositories hold, which is all that is copied: what comes later takes another Copier. The
// repositories' objects are not changed.
func NewCopier(ctx context.Context, from, to *repo.Repo) (*Copier, error) {
	src, err := NewArchive(from, nil)
	if err != nil {
		return nil, err
	}
	dst, err := NewArchive(to, nil)
	if err != nil {
		return nil, err
	}
	c := &Copier{from: src, to: dst}
	if err := c.list(ctx); err != nil {
		return nil, fmt.Errorf("wal: copy: %w", err)
	}
	return c, nil
}

// Strange are objects in place of WAL that are no files of any of the repository's clusters, each a *[repo.CorruptError].
// They are not copied.
func (c *Copier) Strange() []error { return c.strange }

// Claim makes the other repository belong to the clusters that the first one has belonged to. One that belongs to others
// is a *[ForeignError]. It comes before the first file.
func (c *Copier) Claim(ctx context.Context) error {
	src, err := c.from.owners(ctx, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // and there is no WAL, nor any backup
	}
	if err != nil {
		return err
	}
	dst, err := c.to.owners(ctx, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for i := range min(len(src), len(dst)) {
		if src[i].ID != dst[i].ID {
			return foreign("the repository that is to be copied", src[len(src)-1].ID, dst)
		}
		if err := sameSize("the repository that is to be copied", src[i], dst[i]); err != nil {
			return err
		}
	}
	for i := len(dst); i < len(src); i++ {
		err := repo.CopyRecord(ctx, c.from.repo, c.to.repo, systemKey(i+1))
		if errors.Is(err, fs.ErrExist) {
			return c.Claim(ctx) // somebody was faster, and what he has written is there for good
		}
		if err != nil {
			return fmt.Errorf("wal: claim the repository: %w", notMissing(err))
		}
	}
	return nil
}

// Damaged is a file that both repositories hold, and that is damaged in one of them.
type Damaged struct {
	Key   string
	There bool // in the other repository
	Err   *repo.CorruptError
}

// Check tells whether what both repositories hold of a timeline is the same WAL, by its history and by the newest segment
// that both have. Where two servers have written a timeline, as when the copy was promoted too, it is a *[ConflictError],
// and nothing of that timeline may be copied. What is damaged of these is passed over, and returned: one of the segments
// before that is compared then. Where none is left the error is a *[repo.CorruptError].
func (c *Copier) Check(ctx context.Context, systemID uint64, t Timeline) (damaged []Damaged, err error) {
	both := c.both[timelineOf{systemID, t}]
	if both.history.text != "" {
		if _, err := c.same(ctx, systemID, both.history, &damaged); err != nil {
			return damaged, err
		}
	}
	before := len(damaged)
	for _, n := range slices.Backward(both.segments) {
		same, err := c.same(ctx, systemID, n, &damaged)
		if err != nil || same {
			return damaged, err
		}
	}
	if len(damaged) > before {
		return damaged, fmt.Errorf("wal: copy: whether both hold the same WAL of timeline %d cannot be told: %w", t, damaged[before].Err)
	}
	return damaged, nil
}

// same compares a file that both hold. False is that it has expired, or is damaged, of which it takes note.
func (c *Copier) same(ctx context.Context, systemID uint64, n Name, damaged *[]Damaged) (bool, error) {
	key := c.systems[systemID].key(n)
	have, err := c.from.repo.Label(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	there := err == nil
	if err == nil {
		err = c.to.compare(ctx, key, n, digest(pad(have)))
	}
	var corrupt *repo.CorruptError
	switch {
	case errors.As(err, &corrupt):
		*damaged = append(*damaged, Damaged{Key: key, There: there, Err: corrupt})
		return false, nil
	case err != nil:
		return false, notMissing(fmt.Errorf("wal: copy: %w", err))
	}
	return true, nil
}

// pad makes a label that is no digest one that no content has.
func pad(label []byte) []byte {
	return append(label[:len(label):len(label)], make([]byte, len(digest{}))...)[:len(digest{})]
}

// Copy copies a file and checks it as [Archive.Fetch] does. When the other repository has got the same file meanwhile,
// that is success; another one of its name is a *[ConflictError]. A file that is gone is an error matching
// fs.ErrNotExist.
func (c *Copier) Copy(ctx context.Context, f Stored, o *repo.CopyOptions) error {
	options := repo.CopyOptions{}
	if o != nil {
		options = *o
	}
	var label []byte
	options.Check = func(obj *repo.Object) error {
		label = bytes.Clone(obj.Label())
		return f.check(obj)
	}
	_, err := repo.CopyObject(ctx, c.from.repo, c.to.repo, f.Key, &options)
	if errors.Is(err, fs.ErrExist) {
		if f.Kind == StoredRollUp {
			return nil // either is right
		}
		name := Name{text: f.Key[strings.IndexByte(f.Key, '/')+1:]}
		err = notMissing(c.to.compare(ctx, f.Key, name, digest(pad(label))))
	}
	if err != nil {
		return fmt.Errorf("wal: copy: %w", err)
	}
	if f.Kind == StoredSegment {
		c.mu.Lock()
		defer c.mu.Unlock()
		hold(c.there, timelineOf{f.System.ID, f.Segment.Timeline}, f.Segment)
	}
	return nil
}

// Sweep deletes, of the pieces that were in the other repository, those whose segment it holds whole by now. With
// credentials that may not delete they stay, which does no harm.
func (c *Copier) Sweep(ctx context.Context) {
	var keys []string
	for _, p := range c.pieces {
		if p.there && c.Holds(p.System.ID, p.Segment) {
			keys = append(keys, p.Key)
		}
	}
	c.to.discard(ctx, keys)
}
