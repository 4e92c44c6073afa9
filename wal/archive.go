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
	// SystemID is the system identifier of the cluster. The default, 0, takes the one that the repository belongs to,
	// and makes the first segment or backup that comes claim it.
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

	mu     sync.Mutex
	system *System // once known
}

// NewArchive returns the WAL archive of a repository.
func NewArchive(r *repo.Repo, o *Options) (*Archive, error) {
	if r == nil {
		return nil, errors.New("wal: no repository given")
	}
	if o == nil {
		o = &Options{}
	}
	a := &Archive{repo: r, want: o.SystemID, log: o.Logger}
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

// System is the cluster that a repository belongs to.
type System struct {
	ID          uint64
	SegmentSize uint32 // in bytes
}

// systemKey is the record that tells whom the repository belongs to. Creating it exclusively is the claim.
const systemKey = "systems/1"

type systemRecord struct {
	SystemID    string `json:"system_id"`
	SegmentSize uint32 `json:"segment_size"`
}

// System returns the cluster that the repository belongs to. When none has claimed it yet, the error matches
// fs.ErrNotExist.
func (a *Archive) System(ctx context.Context) (System, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.readSystem(ctx)
}

func (a *Archive) readSystem(ctx context.Context) (System, error) {
	if a.system != nil {
		return *a.system, nil
	}
	var rec systemRecord
	err := a.repo.ReadRecord(ctx, systemKey, &rec)
	if errors.Is(err, fs.ErrNotExist) {
		err = a.unclaimed(ctx, err)
	}
	if err != nil {
		return System{}, fmt.Errorf("wal: %w", err)
	}
	id, err := strconv.ParseUint(rec.SystemID, 10, 64)
	if err != nil || !ValidSegmentSize(rec.SegmentSize) {
		return System{}, &repo.CorruptError{Key: systemKey, Err: errors.New("malformed")}
	}
	s := System{ID: id, SegmentSize: rec.SegmentSize}
	if a.want != 0 && a.want != s.ID {
		return System{}, &ForeignError{Name: "the cluster", Got: a.want, Want: s.ID}
	}
	a.system = &s
	return s, nil
}

// unclaimed returns missing, the error that there is no record of the cluster, unless there is an archive all the same.
// Then the record is lost, and nothing may be said on whether a segment exists.
func (a *Archive) unclaimed(ctx context.Context, missing error) error {
	for _, prefix := range []string{"wal/", "pieces/"} {
		for info, err := range a.repo.Store().List(ctx, prefix) {
			if err != nil {
				return err
			}
			return &repo.CorruptError{Key: systemKey, Err: errors.New("it is missing, though there is " + info.Key)}
		}
	}
	return missing
}

// Claim makes the repository belong to a cluster, or checks that it does. name is what is checked, for the error, a
// *[ForeignError] when the repository belongs to another.
func (a *Archive) Claim(ctx context.Context, name string, s System) error {
	if a.want != 0 && a.want != s.ID {
		return &ForeignError{Name: name, Got: s.ID, Want: a.want}
	}
	if !ValidSegmentSize(s.SegmentSize) {
		return fmt.Errorf("wal: %d bytes is no size of a segment", s.SegmentSize)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	have, err := a.readSystem(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		rec := systemRecord{SystemID: strconv.FormatUint(s.ID, 10), SegmentSize: s.SegmentSize}
		if err := a.repo.CreateRecord(ctx, systemKey, rec); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("wal: claim the repository: %w", err)
		}
		have, err = a.readSystem(ctx)
	}
	if err != nil {
		return err
	}
	if have.ID != s.ID {
		return &ForeignError{Name: name, Got: s.ID, Want: have.ID}
	}
	if have.SegmentSize != s.SegmentSize {
		return fmt.Errorf("wal: %s has segments of %d bytes, but this repository holds segments of %d bytes: use a new repository after pg_resetwal --wal-segsize",
			name, s.SegmentSize, have.SegmentSize)
	}
	return nil
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
	return n, nil
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
	_, err = a.repo.Store().Stat(ctx, sys.key(n))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("wal: look for %s: %w", n, err)
	}
	return true, nil
}
