package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
)

// Options are the options of [NewArchive]. A nil *Options, and the zero value of each field, is its default.
type Options struct {
	// SystemID is the system identifier of the cluster: the one that the repository belongs to, or one that it has
	// belonged to before (see [Archive.Upgrade]), whose WAL can be read and not added to. The default, 0, takes the one
	// that the repository belongs to, and makes the first segment or backup that comes claim it.
	SystemID uint64

	// StateDir is a directory of this host, made when needed and readable by its owner only, where the archive remembers
	// what it has pushed ahead (see [Archive.PushReady]) and keeps what it has fetched ahead (see [Archive.Prefetch]).
	// The default is the repository's own, [repo.Repo.StateDir]; without one, nothing is remembered. It is trusted. A
	// copy of a repository has the same id: a host that uses both gives each its own StateDir.
	StateDir string

	// Logger is told what is worth knowing and no error. The default discards.
	Logger *slog.Logger
}

// Archive is the WAL archive of a repository. It is safe for concurrent use, by goroutines and by processes.
type Archive struct {
	repo *repo.Repo
	want uint64 // Options.SystemID
	log  *slog.Logger

	state string // directory or empty
	marks marks  // of what was pushed ahead

	rolling sync.Mutex
	kept    keptIndexes // of what was pushed

	owned owned
}

// NewArchive returns the WAL archive of a repository.
func NewArchive(r *repo.Repo, o *Options) (*Archive, error) {
	if r == nil {
		return nil, errors.New("wal: no repository given")
	}
	if o == nil {
		o = &Options{}
	}
	a := &Archive{repo: r, want: o.SystemID, log: o.Logger, owned: owned{lock: make(chan struct{}, 1), claiming: make(chan struct{}, 1)}}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.state = o.StateDir; a.state == "" {
		a.state = r.StateDir()
	}
	a.marks = marksIn(a.state, r.ID())
	// Unlike the rest, indexes are true whatever a repository holds, so all archives of it share them.
	a.kept = keptIndexesIn(cmp.Or(r.StateDir(), a.state))
	return a, nil
}

// Keys below wal/<system id>/. A timeline's segments are in groups: all that differ in the last two digits only.

func (s System) prefix() string { return "wal/" + strconv.FormatUint(s.ID, 10) + "/" }

func (s System) key(n Name) string {
	name := n.String()
	if n.Kind == KindHistory {
		return s.prefix() + name
	}
	return s.groupPrefix(name[:22]) + name
}

// groupPrefix begins the keys of a group, given by its name.
func (s System) groupPrefix(name string) string { return s.prefix() + name[:8] + "/" + name[8:] + "/" }

// parseKey is the reverse of key.
func (s System) parseKey(key string) (Name, error) {
	n, err := ParseName(key[strings.LastIndexByte(key, '/')+1:])
	if err != nil {
		return n, err
	}
	if s.key(n) != key {
		return n, &NameError{Name: key, Reason: "not a key of the archive"}
	}
	if n.Kind != KindHistory {
		_, err = n.Segment(s.SegmentSize)
	}
	return n, err
}

// Has tells whether the archive holds a file.
func (a *Archive) Has(ctx context.Context, n Name) (bool, error) {
	sys, err := a.System(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return a.holds(ctx, sys, n)
}

// holds tells whether the archive of a cluster holds a file.
func (a *Archive) holds(ctx context.Context, sys System, n Name) (bool, error) {
	_, err := a.repo.Store().Stat(ctx, sys.key(n))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("wal: look for %s: %w", n, err)
	}
	return true, nil
}
