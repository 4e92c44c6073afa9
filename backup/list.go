package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// frontSize is how much of a manifest is read for its summary: a frame of at most maxHeadLine, and what is before it.
const frontSize = maxHeadLine + 32<<10

// List returns the backups of a repository, oldest first. One whose manifest cannot be read is left out and reported in the
// error, which then joins an *[UnreadableError] for each; the others are returned all the same. One whose pin is corrupt
// counts as pinned, and is reported as well. Where the identities at hand open no manifest at all, nothing is returned, and
// the error is that of the first.
func List(ctx context.Context, r *repo.Repo) ([]*Summary, error) {
	var ids []ID
	var bad []error
	for info, err := range r.Store().List(ctx, manifests) {
		if err != nil {
			return nil, fmt.Errorf("backup: list backups: %w", err)
		}
		id, err := ParseID(strings.TrimPrefix(info.Key, manifests))
		if err != nil {
			bad = append(bad, &UnreadableError{info.Key, &repo.CorruptError{Key: info.Key, Err: err}})
			continue
		}
		ids = append(ids, id)
	}
	found, failed := make([]*Summary, len(ids)), make([]error, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0)) // mostly waits for the store
	for i, id := range ids {
		g.Go(func() error {
			found[i], failed[i] = loadSummary(gctx, r, id)
			if failed[i] == nil || repo.Unreadable(failed[i]) || errors.Is(failed[i], fs.ErrNotExist) {
				return nil
			}
			return failed[i]
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	pinned, err := Pinned(ctx, r)
	if unreadable := (*UnreadableError)(nil); err != nil && !errors.As(err, &unreadable) {
		return nil, err
	}
	if err != nil {
		bad = append(bad, err)
	}
	all := make([]*Summary, 0, len(ids))
	var closed error
	for i, s := range found {
		switch {
		case s != nil:
			s.Pinned = pinned[s.ID]
			all = append(all, s)
		case !errors.Is(failed[i], fs.ErrNotExist): // else it was deleted since it was listed
			bad = append(bad, &UnreadableError{ids[i].manifestKey(), failed[i]})
			if key := (*repo.DataKeyError)(nil); closed == nil && errors.As(failed[i], &key) {
				closed = failed[i]
			}
		}
	}
	if len(all) == 0 && closed != nil {
		return nil, closed
	}
	lost, err := lostPinned(ctx, r, pinned, ids)
	if err != nil {
		return nil, err
	}
	return all, errors.Join(append(bad, lost...)...)
}

// lostPinned reports pinned backups that have no manifest. Those that retention drops are not pinned.
func lostPinned(ctx context.Context, r *repo.Repo, pinned map[ID]bool, listed []ID) (lost []error, err error) {
	for _, id := range slices.Sorted(maps.Keys(pinned)) {
		if slices.Contains(listed, id) {
			continue
		}
		switch _, err := r.Store().Stat(ctx, id.manifestKey()); {
		case errors.Is(err, fs.ErrNotExist):
			lost = append(lost, &UnreadableError{id.manifestKey(), fmt.Errorf("the backup is pinned, and its manifest is gone: %w", fs.ErrNotExist)})
		case err != nil:
			return nil, fmt.Errorf("backup: %s: %w", id, err)
		}
	}
	return lost, nil
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
