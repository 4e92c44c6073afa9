package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// locations are where the repositories are. PGCAIRN_REPOS counts before PGCAIRN_REPO, and --repo before both.
func (c *common) locations(given bool) []string {
	if several := strings.Fields(c.Repos); !given && len(several) > 0 {
		return several
	}
	if len(c.Repo) == 0 {
		return []string{""} // which is refused where one is needed
	}
	return c.Repo
}

// repository opens the first repository that opens, which is the first from then on. observe, unless nil, is told of
// every call on its store.
func (a *app) repository(ctx context.Context, observe func(repo.Op)) (*repo.Repo, error) {
	var failed error
	for i, location := range a.locations {
		r, err := a.openWith(ctx, location, false, repo.Open, observe)
		if err == nil {
			a.locations[0], a.locations[i] = a.locations[i], a.locations[0]
			return r, nil
		}
		if i+1 < len(a.locations) {
			a.logger().WarnContext(ctx, "a repository cannot be opened, trying the next", "error", err)
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// initRepository makes a repository, or opens it.
func (a *app) initRepository(ctx context.Context, location string) (*repo.Repo, error) {
	return a.openWith(ctx, location, true, repo.Init, nil)
}

func (a *app) openWith(ctx context.Context, location string, create bool,
	open func(context.Context, repo.Store, *repo.Options) (*repo.Repo, error), observe func(repo.Op),
) (*repo.Repo, error) {
	where, err := parseLocation(location)
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
		store = repo.Observe(store, observe) // each attempt counts, as it is paid for
	}
	if where.bucket != nil {
		store = a.retry(store)
	}
	return open(ctx, store, &repo.Options{Cipher: cipher, StateDir: a.common.stateDir(), Logger: a.logger()})
}

// retry asks a service that has failed again.
func (a *app) retry(s repo.Store) repo.Store {
	o := &repo.RetryOptions{Time: a.common.RetryFor, Logger: a.logger()}
	if o.Time <= 0 {
		o.Time = -1
	}
	return repo.Retry(s, o)
}

// archive opens the WAL archive of the first repository, of the cluster that it belongs to.
func (a *app) archive(ctx context.Context) (*wal.Archive, error) { return a.archiveOf(ctx, 0) }

// archiveOf opens the WAL archive of one of the clusters that the first repository has belonged to.
func (a *app) archiveOf(ctx context.Context, systemID uint64) (*wal.Archive, error) {
	return a.archiveAt(ctx, a.locations[0], systemID)
}

func (a *app) archiveAt(ctx context.Context, location string, systemID uint64) (*wal.Archive, error) {
	r, err := a.openWith(ctx, location, false, repo.Open, nil)
	if err != nil {
		return nil, err
	}
	o := &wal.Options{SystemID: systemID, Logger: a.logger()}
	if dir := r.StateDir(); dir != "" {
		// A copy of the repository has the same id, and what is remembered of one is not true of the other.
		where, err := parseLocation(location)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(where.String()))
		o.StateDir = filepath.Join(dir, "wal-"+hex.EncodeToString(sum[:8]))
	}
	return wal.NewArchive(r, o)
}

// several tells whether there is more than one repository.
func (a *app) several() bool { return len(a.locations) > 1 }

// places are where the repositories are, each of which is named once.
func (a *app) places() ([]location, error) {
	var all []location
	named := map[string]bool{}
	for _, text := range a.locations {
		where, err := parseLocation(text)
		if err != nil {
			return nil, err
		}
		if named[where.String()] {
			return nil, usage(fmt.Sprintf("--repo: %s is given twice", where))
		}
		named[where.String()] = true
		all = append(all, where)
	}
	return all, nil
}

// onlyOne refuses several repositories, for a command that could do only a part of what is asked for.
func (a *app) onlyOne(command string) error {
	if a.several() {
		return usage(command + " takes one --repo, which counts before PGCAIRN_REPOS")
	}
	return nil
}

// archives joins the WAL archives of all repositories.
func (a *app) archives(systemID uint64, o *wal.ArchivesOptions) (*wal.Archives, error) {
	places, err := a.places()
	if err != nil {
		return nil, err
	}
	var members []wal.Member
	for i, where := range places {
		location := a.locations[i]
		members = append(members, wal.Member{Name: where.String(), Open: func(ctx context.Context) (*wal.Archive, error) {
			return a.archiveAt(ctx, location, systemID)
		}})
	}
	o.Logger = a.logger()
	return wal.NewArchives(members, o)
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
