package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// frontSize is how much of a manifest is read for its summary: a frame of at most maxHeadLine, and what is before it.
const frontSize = maxHeadLine + 32<<10

// List returns the backups of a repository, oldest first. One whose manifest is corrupt is left out and reported in the
// error, which then joins a *[repo.CorruptError] for each; the others are returned all the same. One whose pin is corrupt
// counts as pinned, and is reported as well.
func List(ctx context.Context, r *repo.Repo) ([]*Summary, error) {
	var ids []ID
	var bad []error
	for info, err := range r.Store().List(ctx, manifests) {
		if err != nil {
			return nil, fmt.Errorf("backup: list backups: %w", err)
		}
		id, err := ParseID(strings.TrimPrefix(info.Key, manifests))
		if err != nil {
			bad = append(bad, &repo.CorruptError{Key: info.Key, Err: err})
			continue
		}
		ids = append(ids, id)
	}
	found, failed := make([]*Summary, len(ids)), make([]error, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0)) // mostly waits for the store
	for i, id := range ids {
		g.Go(func() error {
			var corrupt *repo.CorruptError
			found[i], failed[i] = loadSummary(gctx, r, id)
			if failed[i] == nil || errors.As(failed[i], &corrupt) || errors.Is(failed[i], fs.ErrNotExist) {
				return nil
			}
			return failed[i]
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	pinned, err := Pinned(ctx, r)
	var corrupt *repo.CorruptError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, err
	}
	if err != nil {
		bad = append(bad, err)
	}
	all := make([]*Summary, 0, len(ids))
	for i, s := range found {
		switch {
		case s != nil:
			s.Pinned = pinned[s.ID]
			all = append(all, s)
		case !errors.Is(failed[i], fs.ErrNotExist): // else it was deleted since it was listed
			bad = append(bad, failed[i])
		}
	}
	return all, errors.Join(bad...)
}

func loadSummary(ctx context.Context, r *repo.Repo, id ID) (*Summary, error) {
	obj, err := r.OpenFront(ctx, id.manifestKey(), frontSize)
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", id, err)
	}
	defer obj.Close()
	s, err := decodeHead(bufio.NewReaderSize(obj, 16<<10), id)
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", id, err)
	}
	return s, nil
}

// Load reads the manifest of a backup, all of it, and checks that it is sound. A backup that does not exist is an error
// matching fs.ErrNotExist.
func Load(ctx context.Context, r *repo.Repo, id ID) (*Manifest, error) {
	if _, err := ParseID(string(id)); err != nil {
		return nil, err
	}
	obj, err := r.OpenObject(ctx, id.manifestKey())
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", id, err)
	}
	defer obj.Close()
	m, err := decodeManifest(obj, id)
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", id, err)
	}
	return m, nil
}
