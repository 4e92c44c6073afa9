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
	"runtime"
	"strings"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
	"golang.org/x/sync/errgroup"
)

// Orphan is a pack that no manifest names.
type Orphan struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`   // in bytes, as stored
	Backup ID     `json:"backup"` // that it was written for
}

// Orphans yields the packs that no manifest names, in the order of their keys: what backups have left that were killed,
// and no later one has taken over. It reads which packs the manifests name, all of them, and then lists the packs; after
// an error, which is that of a manifest that cannot be read as well, it yields nothing more.
//
// Which backup a pack was written for does not tell whether it is needed: manifests name packs of other backups, also of
// those that have no manifest, never had one or have it no longer.
//
// While a backup is in progress its packs are orphans, and so may be those of one that ends while this goes on. So who
// deletes them holds the lease [LeaseName], from before he asks.
func Orphans(ctx context.Context, r *repo.Repo) iter.Seq2[Orphan, error] {
	return func(yield func(Orphan, error) bool) {
		fail := func(err error) { yield(Orphan{}, err) }
		var ids []ID
		for info, err := range r.Store().List(ctx, manifests) {
			if err != nil {
				fail(fmt.Errorf("backup: list backups: %w", err))
				return
			}
			ids = append(ids, ID(strings.TrimPrefix(info.Key, manifests)))
		}
		needed, err := neededPacks(ctx, r, ids)
		if err != nil {
			fail(err)
			return
		}
		for info, err := range r.Store().List(ctx, packFolder) {
			if err != nil {
				fail(fmt.Errorf("backup: list packs: %w", err))
				return
			}
			id, n, ok := parsePackKey(info.Key)
			if ok && !needed.has(id, n) && !yield(Orphan{Key: info.Key, Size: info.Size, Backup: id}, nil) {
				return
			}
		}
	}
}

// packSet is a set of packs, by the backups that they were written for. A repository may have millions.
type packSet map[ID]map[uint32]struct{}

func (s packSet) has(id ID, n uint64) bool {
	_, ok := s[id][uint32(n)]
	return ok
}

func (s packSet) add(key string) {
	id, n, ok := parsePackKey(key)
	if !ok {
		return
	}
	if s[id] == nil {
		s[id] = map[uint32]struct{}{}
	}
	s[id][uint32(n)] = struct{}{}
}

// neededPacks returns the packs that manifests name. One that is gone names none.
func neededPacks(ctx context.Context, r *repo.Repo, ids []ID) (packSet, error) {
	needed := packSet{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for _, id := range ids {
		g.Go(func() error {
			keys, err := packKeys(ctx, r, id)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("backup: %s: %w", id, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, key := range keys {
				needed.add(key)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return needed, nil
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
		if l.Pack != nil {
			keys = append(keys, l.Pack.Key)
		}
	}
}
