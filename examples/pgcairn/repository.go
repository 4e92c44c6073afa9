package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// repository opens the repository of --repo. observe, unless nil, is told of every call on its store.
func (a *app) repository(ctx context.Context, observe func(repo.Op)) (*repo.Repo, error) {
	return a.openWith(ctx, false, repo.Open, observe)
}

// initRepository makes the repository, or opens it.
func (a *app) initRepository(ctx context.Context) (*repo.Repo, error) {
	return a.openWith(ctx, true, repo.Init, nil)
}

func (a *app) openWith(ctx context.Context, create bool,
	open func(context.Context, repo.Store, *repo.Options) (*repo.Repo, error), observe func(repo.Op),
) (*repo.Repo, error) {
	where, err := parseLocation(a.common.Repo)
	if err != nil {
		return nil, err
	}
	cipher, err := a.common.cipher()
	if err != nil {
		return nil, err
	}
	store, err := where.open(ctx, create)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(repo.ErrNoRepository, err)
	}
	if err != nil {
		return nil, err
	}
	if observe != nil {
		store = repo.Observe(store, observe)
	}
	return open(ctx, store, &repo.Options{Cipher: cipher, StateDir: a.common.stateDir(), Logger: a.logger()})
}

// archive opens the WAL archive of the repository, of the cluster that it belongs to.
func (a *app) archive(ctx context.Context) (*wal.Archive, error) { return a.archiveOf(ctx, 0) }

// archiveOf opens the WAL archive of one of the clusters that the repository has belonged to.
func (a *app) archiveOf(ctx context.Context, systemID uint64) (*wal.Archive, error) {
	r, err := a.repository(ctx, nil)
	if err != nil {
		return nil, err
	}
	o := &wal.Options{SystemID: systemID, Logger: a.logger()}
	if dir := r.StateDir(); dir != "" {
		// A copy of the repository has the same id, and what is remembered of one is not true of the other.
		where, err := parseLocation(a.common.Repo)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(where.String()))
		o.StateDir = filepath.Join(dir, "wal-"+hex.EncodeToString(sum[:8]))
	}
	return wal.NewArchive(r, o)
}

// stateDir is where this host keeps its state. An archive_command may run without HOME.
func (c *common) stateDir() string {
	if c.StateDir != "" {
		return c.StateDir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "pgcairn")
	}
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return filepath.Join(u.HomeDir, ".cache", "pgcairn")
	}
	return ""
}
