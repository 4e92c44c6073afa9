package backup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Namer names the relations that WAL is about, such as those of a [wal.Event], from the catalogs of backups. It is not
// safe for concurrent use.
type Namer struct {
	repo *repo.Repo
	all  []*Summary
	seen map[ID]Names
}

// NamerOptions are the options of [NewNamer]. A nil *NamerOptions, and the zero value of each field, is its default.
type NamerOptions struct {
	// SystemID is the system identifier of the cluster that the WAL is of. The default, 0, is the one that the repository
	// belongs to.
	SystemID uint64
}

// NewNamer lists the backups of a repository.
func NewNamer(ctx context.Context, r *repo.Repo, o *NamerOptions) (*Namer, error) {
	if o == nil {
		o = &NamerOptions{}
	}
	a, err := wal.NewArchive(r, &wal.Options{SystemID: o.SystemID})
	if err != nil {
		return nil, err
	}
	sys, err := a.System(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all, err := List(ctx, r)
	if all == nil && err != nil {
		return nil, err
	}
	// Another cluster's positions and numbers mean something else.
	all = slices.DeleteFunc(all, func(s *Summary) bool { return s.SystemID != sys.ID })
	return &Namer{repo: r, all: all, seen: map[ID]Names{}}, nil
}

// Name returns what a relation was called before something happened to it at a position: as the newest backup knows it
// that was begun before that. ok is false when that one does not know it, as when it was created later.
func (n *Namer) Name(ctx context.Context, at wal.LSN, r wal.Relation) (_ Relation, ok bool, err error) {
	for _, s := range slices.Backward(n.all) {
		if s.StartLSN > at {
			continue
		}
		names, loaded := n.seen[s.ID]
		if !loaded {
			c, err := loadCatalog(ctx, n.repo, s.ID)
			if err != nil {
				return Relation{}, false, err
			}
			names = c.Names()
			n.seen[s.ID] = names
		}
		found, ok := names[r]
		return found, ok, nil
	}
	return Relation{}, false, nil
}

// loadCatalog reads a manifest up to where its packs begin; nil is that it has no catalog.
func loadCatalog(ctx context.Context, r *repo.Repo, id ID) (*Catalog, error) {
	obj, err := r.OpenFront(ctx, id.manifestKey(), math.MaxInt64)
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", id, err)
	}
	defer obj.Close()
	br := bufio.NewReaderSize(obj, 64<<10)
	s, err := decodeHead(br, id)
	if err != nil {
		return nil, fmt.Errorf("backup: %s: %w", id, err)
	}
	m := &Manifest{Summary: *s}
	for {
		line, err := readLine(br, maxLine)
		if errors.Is(err, errLine) || errors.Is(err, io.EOF) {
			return nil, m.malformed("it has no end")
		}
		if err != nil {
			return nil, fmt.Errorf("backup: %s: %w", id, err)
		}
		var l manifestLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, m.malformed("%v", err)
		}
		if l.Pack != nil || l.End != nil {
			return m.Catalog, nil
		}
		if l.Catalog == nil && l.Database == nil && l.Relation == nil {
			continue
		}
		if _, err := m.add(l); err != nil {
			return nil, err
		}
	}
}
