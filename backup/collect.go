package backup

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"golang.org/x/sync/errgroup"
)

// unitSize is how many bytes of files a worker takes at a time: much enough to read in sequence, little enough that
// the workers finish together.
const unitSize = 8 << 20

// maxPageSize is the largest page that a server can be built with, in bytes.
const maxPageSize = 32 << 10

// growth is how much further than its listed size a file that is no relation is read, since it may have been replaced
// by a larger one. What a relation has grown by is in the WAL.
const growth = 1 << 20

// span is a part of a file to be read.
type span struct {
	file   int // index in collector.entries
	off, n int64
}

// collector reads files into packs and keeps the account of what is where. Its workers share nothing else.
type collector struct {
	repo    *repo.Repo
	id      ID
	start   Start
	entries []Entry
	total   int64 // listed bytes

	nextPack     atomic.Uint64
	read, stored atomic.Int64
	committing   *errgroup.Group

	mu       sync.Mutex
	sizes    []int64 // by file; -1 while it has not been found
	packs    []PackPieces
	suspects []suspect
}

// suspect is a page that failed its checksum.
type suspect struct {
	BadPage
	lsn wal.LSN
}

func newCollector(r *repo.Repo, id ID, start Start, entries []Entry) *collector {
	c := &collector{repo: r, id: id, start: start, entries: entries, sizes: make([]int64, len(entries))}
	for i, e := range entries {
		c.total += e.Size
		c.sizes[i] = -1
	}
	return c
}

// run reads all files with a number of workers.
func (c *collector) run(ctx context.Context, s Session, jobs int) error {
	// Packs are committed, which waits for the disk, while their writers go on with the next.
	var cctx context.Context
	c.committing, cctx = errgroup.WithContext(ctx)
	c.committing.SetLimit(jobs)
	workers, wctx := errgroup.WithContext(cctx)
	units := make(chan []span)
	workers.Go(func() error {
		defer close(units)
		return c.units(wctx, units)
	})
	for range jobs {
		workers.Go(func() error {
			// The pack writers must outlive the workers' group, so they get the context around it.
			w := worker{c: c, ctx: cctx, session: s}
			defer w.close()
			for unit := range units {
				if err := w.unit(wctx, unit); err != nil {
					return err
				}
			}
			if err := wctx.Err(); err != nil {
				return err
			}
			return w.finish()
		})
	}
	err := workers.Wait()
	if failed := c.committing.Wait(); failed != nil && (err == nil || ctx.Err() == nil) {
		return failed // which has stopped the workers, if they were not done
	}
	return err
}

// units cuts the files into units of work.
func (c *collector) units(ctx context.Context, units chan<- []span) error {
	var unit []span
	room := int64(unitSize)
	send := func() error {
		select {
		case units <- unit:
			unit, room = nil, unitSize
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i, e := range c.entries {
		extra := int64(growth)
		if _, ok := pgfile.ParseRelation(e.Path); ok {
			extra = 0
		}
		for off := int64(0); ; {
			// Cut between pages, whatever their size.
			n := min((room+maxPageSize-1)/maxPageSize*maxPageSize, e.Size-off)
			last := off+n == e.Size
			s := span{file: i, off: off, n: n}
			if last {
				s.n += extra
			}
			unit = append(unit, s)
			off += n
			// A file costs an open besides its bytes.
			if room -= n + 4096; room <= 0 {
				if err := send(); err != nil {
					return err
				}
			}
			if last {
				break
			}
		}
	}
	if len(unit) == 0 {
		return nil
	}
	return send()
}

// found notes that a file has bytes up to end.
func (c *collector) found(file int, end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes[file] = max(c.sizes[file], end)
}

func (c *collector) suspect(s suspect) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspects = append(c.suspects, s)
}

// commit commits a pack on the side.
func (c *collector) commit(w *repo.PackWriter, pieces [][]Piece) {
	c.committing.Go(func() error {
		defer w.Close()
		p, err := w.Commit()
		if err != nil {
			return err
		}
		c.stored.Add(p.Size)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.packs = append(c.packs, PackPieces{Pack: p, Pieces: pieces})
		return nil
	})
}

// discardTime bounds how long discarding may hold up a caller who has cancelled.
const discardTime = 20 * time.Second

// discard deletes the packs of a backup that has failed. What cannot be deleted takes space and does no harm.
func (c *collector) discard(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, discardTime)
	defer cancel()
	for n := range c.nextPack.Load() {
		key := c.id.packKey(n + 1)
		if err := c.repo.Store().Delete(ctx, key); err != nil {
			log.WarnContext(ctx, "packs of a backup that failed are left behind", "first", key, "error", err)
			return
		}
	}
}

// fill enters the account into a manifest. Files that were never found have vanished, and are left out.
func (c *collector) fill(m *Manifest, stop wal.LSN) {
	index := make([]int, len(c.entries))
	for i, e := range c.entries {
		if c.sizes[i] < 0 {
			continue
		}
		index[i] = len(m.FileList)
		m.FileList = append(m.FileList, File{Path: e.Path, Size: c.sizes[i]})
		m.ClusterBytes += c.sizes[i]
	}
	m.Files = len(m.FileList)
	slices.SortFunc(c.packs, func(a, b PackPieces) int { return cmp.Compare(a.Key, b.Key) })
	for _, p := range c.packs {
		for _, pieces := range p.Pieces {
			for i := range pieces {
				pieces[i].File = index[pieces[i].File]
				m.FileList[pieces[i].File].Data += int64(pieces[i].Length)
			}
		}
		m.StoredBytes += p.Size
	}
	m.PackList, m.Packs = c.packs, len(c.packs)
	m.ReadBytes = c.read.Load()
	for _, s := range c.suspects {
		// Recovery replaces pages that were written during the backup; those from after its end cannot be real.
		if s.lsn < c.start.LSN || s.lsn > stop {
			m.BadPageList = append(m.BadPageList, s.BadPage)
		}
	}
	slices.SortFunc(m.BadPageList, compareBadPages)
	m.BadPages = len(m.BadPageList)
}

func compareBadPages(a, b BadPage) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Block, b.Block))
}
