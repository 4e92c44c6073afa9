package backup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// Orphan is a pack, or a manifest of a server, that no backup needs.
type Orphan struct {
	Key     string    `json:"key"`
	Size    int64     `json:"size"`    // in bytes, as stored
	ModTime time.Time `json:"time"`    // when it was stored
	Backup  ID        `json:"backup"`  // that it was written for
	Dropped bool      `json:"dropped"` // a backup needs it, or did, that [Needs.Orphans] was to leave out, or that is marked
}

// Orphans yields the packs that no manifest names, and the manifests of servers that belong to none, in the order of their
// keys: what backups have left that were killed, and no later one has taken over. It reads which packs the manifests name,
// all of them, and then lists the packs; after an error, which is that of a manifest that cannot be read as well, it yields
// nothing more.
//
// Which backup a pack was written for does not tell whether it is needed: manifests name packs of other backups, also of
// those that have no manifest, never had one or have it no longer.
//
// While a backup is in progress its packs are orphans, and so may be those of one that ends while this goes on. So who
// deletes them holds the lease [LeaseName], from before he asks.
func Orphans(ctx context.Context, r *repo.Repo) iter.Seq2[Orphan, error] {
	return NewNeeds(r).Orphans(ctx, nil)
}

// Needs tells which packs the backups of a repository need. Manifests do not change, so it reads each one once,
// and remembers which packs that names. It is used by one goroutine at a time.
type Needs struct {
	repo  *repo.Repo
	packs map[ID]packSet
	given map[ID]bool
}

// NewNeeds returns a Needs that has read nothing yet.
func NewNeeds(r *repo.Repo) *Needs {
	return &Needs{repo: r, packs: map[ID]packSet{}, given: map[ID]bool{}}
}

// GiveUp takes a backup whose manifest cannot be read for one that needs nothing.
func (n *Needs) GiveUp(id ID) { n.given[id] = true }

// Orphans is like the function [Orphans], and takes those backups for dropped that are in without: what only they need, it
// yields as well. Unless without is nil, it tells what backups have needed that were dropped after [Needs.Mark].
func (n *Needs) Orphans(ctx context.Context, without map[ID]bool) iter.Seq2[Orphan, error] {
	return func(yield func(Orphan, error) bool) {
		there, err := n.load(ctx)
		if err != nil {
			yield(Orphan{}, err)
			return
		}
		marked := packSet{}
		if without != nil {
			if marked, err = n.markedPacks(ctx, there); err != nil {
				yield(Orphan{}, err)
				return
			}
		}
		kept := slices.DeleteFunc(slices.Clone(there), func(id ID) bool { return without[id] })
		dropped := slices.DeleteFunc(there, func(id ID) bool { return !without[id] })
		for info, err := range n.repo.Store().List(ctx, packFolder) {
			if err != nil {
				yield(Orphan{}, fmt.Errorf("backup: list packs: %w", err))
				return
			}
			id, number, ok := parsePackKey(info.Key)
			if !ok || n.needed(kept, id, number) {
				continue
			}
			if !yield(Orphan{info.Key, info.Size, info.ModTime, id, n.needed(dropped, id, number) || marked.has(id, number)}, nil) {
				return
			}
		}
		for info, err := range n.repo.Store().List(ctx, serverManifests) {
			if err != nil {
				yield(Orphan{}, fmt.Errorf("backup: list manifests of servers: %w", err))
				return
			}
			id, err := ParseID(strings.TrimPrefix(info.Key, serverManifests))
			if err != nil || slices.Contains(kept, id) {
				continue
			}
			if !yield(Orphan{info.Key, info.Size, info.ModTime, id, without[id] || marked[id] != nil}, nil) {
				return
			}
		}
	}
}

// Incomplete returns the backups that lack packs which their manifests name, and how many each. It lists the packs.
func (n *Needs) Incomplete(ctx context.Context) (map[ID]int, error) {
	there, err := n.load(ctx)
	if err != nil {
		return nil, err
	}
	lack := map[ID]int{}
	for _, id := range there {
		lack[id] = n.packs[id].size()
	}
	for info, err := range n.repo.Store().List(ctx, packFolder) {
		if err != nil {
			return nil, fmt.Errorf("backup: list packs: %w", err)
		}
		of, number, ok := parsePackKey(info.Key)
		if !ok {
			continue
		}
		for _, id := range there {
			if n.packs[id].has(of, number) {
				lack[id]--
			}
		}
	}
	maps.DeleteFunc(lack, func(_ ID, n int) bool { return n == 0 })
	return lack, nil
}

// load lists the backups, and reads their manifests.
func (n *Needs) load(ctx context.Context) (there []ID, err error) {
	for info, err := range n.repo.Store().List(ctx, manifests) {
		if err != nil {
			return nil, fmt.Errorf("backup: list backups: %w", err)
		}
		there = append(there, ID(strings.TrimPrefix(info.Key, manifests)))
	}
	return there, n.read(ctx, there)
}

// read reads those of some manifests that were not read yet.
func (n *Needs) read(ctx context.Context, ids []ID) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	ids = slices.DeleteFunc(slices.Clone(ids), func(id ID) bool { return n.packs[id] != nil })
	for _, id := range ids {
		g.Go(func() error {
			var keys []string
			var err error
			if !n.given[id] {
				keys, err = packKeys(ctx, n.repo, id)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // one that is gone names none
				return fmt.Errorf("backup: %s: %w", id, err)
			}
			needs := packSet{}
			for _, key := range keys {
				needs.add(key)
			}
			mu.Lock()
			defer mu.Unlock()
			n.packs[id] = needs
			return nil
		})
	}
	return g.Wait()
}

// needed tells whether one of some backups needs a pack.
func (n *Needs) needed(by []ID, id ID, number uint64) bool {
	return slices.ContainsFunc(by, func(b ID) bool { return n.packs[b].has(id, number) })
}

// packSet is a set of packs, by the backups that they were written for: runs of their numbers, ascending. A backup needs
// nearly all packs of those that it builds on, so that this is small where it is of millions.
type packSet map[ID][]packRun

type packRun struct{ first, last uint64 }

func (s packSet) has(id ID, n uint64) bool {
	runs := s[id]
	i := sort.Search(len(runs), func(i int) bool { return runs[i].last >= n })
	return i < len(runs) && runs[i].first <= n
}

func (s packSet) size() (n int) {
	for _, runs := range s {
		for _, r := range runs {
			n += int(r.last-r.first) + 1
		}
	}
	return n
}

// add adds a pack; keys come in ascending order.
func (s packSet) add(key string) {
	id, n, ok := parsePackKey(key)
	if !ok {
		return
	}
	runs := s[id]
	if last := len(runs) - 1; last >= 0 && runs[last].last+1 == n {
		runs[last].last = n
		return
	}
	s[id] = append(runs, packRun{n, n})
}

// packKeys returns the keys of the packs that a manifest names, from the host's copy of it where there is one.
func packKeys(ctx context.Context, r *repo.Repo, id ID) (keys []string, err error) {
	err = copiesOf(r).open(id, func(r io.Reader) error {
		keys, err = readPackKeys(r, id)
		return err
	})
	if err == nil {
		return keys, nil
	}
	obj, err := r.OpenObject(ctx, id.manifestKey())
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	return readPackKeys(obj, id)
}

// readPackKeys reads a manifest, to its end, for the keys of its packs alone.
func readPackKeys(r io.Reader, id ID) (keys []string, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	s, err := decodeHead(br, id)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Summary: *s}
	for {
		line, err := readLine(br, maxLine)
		switch {
		case errors.Is(err, io.EOF) && len(keys) == s.Packs:
			return keys, nil
		case errors.Is(err, io.EOF):
			return nil, m.malformed("it names %d packs, and says %d", len(keys), s.Packs)
		case errors.Is(err, errLine):
			return nil, m.malformed("%v", err)
		case err != nil:
			return nil, err
		}
		if !bytes.Contains(line, []byte(`"pack"`)) {
			continue // most are of files
		}
		var l struct {
			Pack *struct {
				Key string `json:"key"`
			} `json:"pack"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, m.malformed("%v", err)
		}
		if l.Pack == nil {
			continue
		}
		if n := len(keys); n > 0 && keys[n-1] >= l.Pack.Key {
			return nil, m.malformed("packs are out of order")
		}
		keys = append(keys, l.Pack.Key)
	}
}
