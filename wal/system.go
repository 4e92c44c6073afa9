package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// System is a cluster that a repository belongs to, or has belonged to.
type System struct {
	ID          uint64
	SegmentSize uint32 // in bytes
}

// systemKey is the record that tells whom the repository belongs to, the n-th from 1. The last one counts. Creating it
// exclusively is the claim.
func systemKey(n int) string { return "systems/" + strconv.Itoa(n) }

type systemRecord struct {
	SystemID    string `json:"system_id"`
	SegmentSize uint32 `json:"segment_size"`
}

const (
	// systemAge is how long an archive takes for granted that the repository still belongs to whom it did.
	systemAge = time.Minute
	// maxSystems bounds the records.
	maxSystems = 1000
)

// errUnclaimed is that nobody has claimed the repository yet.
var errUnclaimed = fmt.Errorf("wal: the repository belongs to no cluster yet: %w", fs.ErrNotExist)

// System returns the cluster of the archive: that of [Options], or else the one that the repository belongs to. When
// none has claimed it yet, the error matches fs.ErrNotExist; when the repository has never belonged to the one of
// Options, it is a *[ForeignError].
func (a *Archive) System(ctx context.Context) (System, error) {
	if a.want != 0 {
		return a.systemOf(ctx, "the cluster", a.want)
	}
	all, err := a.owners(ctx, false)
	if err != nil {
		return System{}, err
	}
	return all[len(all)-1], nil
}

// Systems returns the clusters that the repository has belonged to, each once. The last is the one that it belongs to; before
// it come the others, in the order in which they were left. When none has claimed it yet, the error matches
// fs.ErrNotExist.
func (a *Archive) Systems(ctx context.Context) ([]System, error) {
	records, err := a.owners(ctx, false)
	if err != nil {
		return nil, err
	}
	return distinct(records), nil
}

// distinct returns the clusters of records, each once, where it was left last.
func distinct(records []System) []System {
	var all []System
	for _, s := range slices.Backward(records) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	slices.Reverse(all)
	return all
}

// systemOf returns a cluster that the repository has belonged to. For any other it is a *[ForeignError] about name.
func (a *Archive) systemOf(ctx context.Context, name string, id uint64) (System, error) {
	for _, again := range []bool{false, true} {
		all, err := a.owners(ctx, again)
		if err != nil {
			return System{}, err
		}
		if i := slices.IndexFunc(all, func(s System) bool { return s.ID == id }); i >= 0 {
			return all[i], nil
		}
		if again {
			return System{}, foreign(name, id, all)
		}
	}
	return System{}, nil // never
}

// foreign is the error that something is of another cluster than the repository, whose records these are.
func foreign(name string, id uint64, records []System) *ForeignError {
	return &ForeignError{
		Name: name, Got: id, Want: records[len(records)-1].ID,
		Earlier: slices.ContainsFunc(records, func(s System) bool { return s.ID == id }),
	}
}

// owned is what is known of whom the repository belongs to.
type owned struct {
	claiming chan struct{} // whoever has put something in may claim
	claimed  atomic.Bool   // somebody has

	begun atomic.Int64  // times that the store was asked
	lock  chan struct{} // whoever has put something in may use what is below; waiting for it can be given up

	systems []System  // of the records
	last    int64     // which of the times was the last that went well
	at      time.Time // when it was
}

// owners returns the clusters of the records, at least one. What was asked for within a minute is not asked for again,
// unless again is set; then it is what the store has answered since the call.
func (a *Archive) owners(ctx context.Context, again bool) ([]System, error) {
	o := &a.owned
	called := o.begun.Load()
	select {
	case o.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wal: ask whom the repository belongs to: %w", ctx.Err())
	}
	defer func() { <-o.lock }()
	if again && o.last <= called || len(o.systems) == 0 || a.repo.Now().Sub(o.at) > systemAge {
		if err := a.ask(ctx); err != nil {
			return nil, err
		}
	}
	return slices.Clip(o.systems), nil
}

// ask reads the records that are not known. The lock is held.
func (a *Archive) ask(ctx context.Context) error {
	now, n := a.repo.Now(), a.owned.begun.Add(1)
	if err := a.readRecords(ctx); err != nil {
		return err
	}
	if len(a.owned.systems) == 0 {
		key, err := a.anything(ctx)
		if err != nil {
			return fmt.Errorf("wal: %w", err)
		}
		if key == "" {
			return errUnclaimed
		}
		// It may have been claimed since.
		if err := a.readRecords(ctx); err != nil {
			return err
		}
		if len(a.owned.systems) == 0 {
			return fmt.Errorf("wal: %w", &repo.CorruptError{Key: systemKey(1), Err: errors.New("it is missing, though there is " + key)})
		}
	}
	a.owned.at, a.owned.last = now, n
	return nil
}

func (a *Archive) readRecords(ctx context.Context) error {
	for {
		// Mostly there is one, and it takes two answers to know, which are asked for together.
		found := make([]*System, 1, 2)
		if len(a.owned.systems) == 0 {
			found = found[:2]
		}
		g, gctx := errgroup.WithContext(ctx)
		for i := range found {
			g.Go(func() (err error) {
				found[i], err = a.readRecord(gctx, len(a.owned.systems)+1+i)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return fmt.Errorf("wal: %w", err)
		}
		for _, s := range found {
			if s == nil {
				return nil
			}
			a.owned.systems = append(a.owned.systems, *s)
		}
		if len(a.owned.systems) > maxSystems {
			return &repo.CorruptError{Key: systemKey(len(a.owned.systems)), Err: fmt.Errorf("there are more than %d such records", maxSystems)}
		}
	}
}

// readRecord reads the n-th record; nil is that there is none.
func (a *Archive) readRecord(ctx context.Context, n int) (*System, error) {
	var rec systemRecord
	err := a.repo.ReadRecord(ctx, systemKey(n), &rec)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // as documented
	}
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseUint(rec.SystemID, 10, 64)
	if err != nil || !ValidSegmentSize(rec.SegmentSize) {
		return nil, &repo.CorruptError{Key: systemKey(n), Err: errors.New("malformed")}
	}
	return &System{ID: id, SegmentSize: rec.SegmentSize}, nil
}

// anything returns the key of something that is in no repository that nobody has claimed, or nothing. Where it is and
// the record is not, the record is lost, and nothing may be said on whether a segment exists.
func (a *Archive) anything(ctx context.Context) (key string, err error) {
	for _, prefix := range []string{"systems/", "wal/", "pieces/"} {
		for info, err := range a.repo.Store().List(ctx, prefix) {
			return info.Key, err
		}
	}
	return "", nil
}

// Claim makes the repository belong to a cluster, or checks that it does. name is what is checked, for the error, a
// *[ForeignError] when the repository belongs to another.
func (a *Archive) Claim(ctx context.Context, name string, s System) error {
	if err := a.valid(name, s); err != nil {
		return err
	}
	if !a.owned.claimed.Load() { // one after the other, until it is known
		select {
		case a.owned.claiming <- struct{}{}:
			defer func() { <-a.owned.claiming }()
		case <-ctx.Done():
			return fmt.Errorf("wal: claim the repository: %w", ctx.Err())
		}
	}
	records, err := a.owners(ctx, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = a.record(ctx, 1, s)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("wal: claim the repository: %w", err)
		}
		records, err = a.owners(ctx, err != nil)
	case err == nil && records[len(records)-1].ID != s.ID:
		records, err = a.owners(ctx, true) // it may have been upgraded since that was asked
	}
	if err != nil {
		return err
	}
	a.owned.claimed.Store(true)
	return belongs(name, s, records)
}

// Upgrade makes the repository, which belongs to the cluster of system identifier from, belong to another from now on:
// the one that pg_upgrade, or a dump and restore, has made of it. It is the consent without which that one stays foreign,
// and it names what it leaves, so it can be given once only: of two clusters that come from the same one, or of two hosts
// that do it at a time, the first is taken, and the other's error is a *[ForeignError], as for any other from.
//
// It returns true when it has made the change. A repository that belongs to s already stays as it is, and one that
// belongs to nobody is claimed. Whatever it holds of the clusters before can still be read (see [Options]); their servers
// can archive no more, those that archive through a process that goes on within a minute. So what the old cluster's pg_wal
// has that is not archived yet is to be archived before ([Archive.PushReady]).
func (a *Archive) Upgrade(ctx context.Context, name string, s System, from uint64) (bool, error) {
	if err := a.valid(name, s); err != nil {
		return false, err
	}
	records, err := a.owners(ctx, true)
	if errors.Is(err, fs.ErrNotExist) {
		return false, a.Claim(ctx, name, s)
	}
	if err != nil {
		return false, err
	}
	if records[len(records)-1].ID != from || from == s.ID {
		return false, belongs(name, s, records)
	}
	for _, r := range records {
		if r.ID == s.ID { // it comes back
			if err := sameSize(name, s, r); err != nil {
				return false, err
			}
		}
	}
	err = a.record(ctx, len(records)+1, s)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("wal: upgrade the repository: %w", err)
	}
	if records, err = a.owners(ctx, true); err != nil {
		return made, err
	}
	if err := belongs(name, s, records); err != nil {
		return made, err
	}
	if made {
		a.log.WarnContext(ctx, "the repository belongs to another cluster from now on", "system", s.ID, "before", from)
	}
	return made, nil
}

// record creates the n-th record, and takes note of it.
func (a *Archive) record(ctx context.Context, n int, s System) error {
	err := a.repo.CreateRecord(ctx, systemKey(n), systemRecord{SystemID: strconv.FormatUint(s.ID, 10), SegmentSize: s.SegmentSize})
	if err != nil {
		return err
	}
	a.owned.lock <- struct{}{}
	defer func() { <-a.owned.lock }()
	if len(a.owned.systems) == n-1 {
		a.owned.systems, a.owned.at = append(a.owned.systems, s), a.repo.Now()
	}
	return nil
}

// valid tells whether a cluster may be the archive's.
func (a *Archive) valid(name string, s System) error {
	if a.want != 0 && a.want != s.ID {
		return &ForeignError{Name: name, Got: s.ID, Want: a.want}
	}
	if !ValidSegmentSize(s.SegmentSize) {
		return fmt.Errorf("wal: %d bytes is no size of a segment", s.SegmentSize)
	}
	return nil
}

// belongs checks that a repository with such records belongs to a cluster.
func belongs(name string, s System, records []System) error {
	last := records[len(records)-1]
	if last.ID != s.ID {
		return foreign(name, s.ID, records)
	}
	return sameSize(name, s, last)
}

func sameSize(name string, s, have System) error {
	if have.SegmentSize != s.SegmentSize {
		return fmt.Errorf("wal: %s has segments of %d bytes, but this repository holds segments of %d bytes: use a new repository after pg_resetwal --wal-segsize",
			name, s.SegmentSize, have.SegmentSize)
	}
	return nil
}

// of is the archive of one of the clusters that the repository has belonged to.
func (a *Archive) of(id uint64) (*Archive, error) {
	return NewArchive(a.repo, &Options{SystemID: id, StateDir: a.state, Logger: a.log})
}
