package backup

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pgcairn/pgcairn/internal/pace"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
	"golang.org/x/sync/errgroup"
)

// span is a part of a file to be read.
type span struct {
	file   int // index in collector.entries
	off, n int64
}

// task is what a worker does at a time. What is in the WAL by blocks and what is not are kept in frames of their own, so
// that a later backup can compare the latter.
type task struct {
	logged bool
	spans  []span     // to be read and stored
	frames []frameRef // to be compared

	sent    []sentSpan // to be stored
	release func()     // lets go of what was sent, once it is stored
}

// collector reads files into packs and keeps the account of what is where. Its workers share nothing else.
type collector struct {
	repo    *repo.Repo
	id      ID
	start   Start
	entries []Entry
	diff    *difference // nil for a full backup that takes nothing over
	work    work
	total   int64       // bytes to be read
	pace    *pace.Pacer // nil for as fast as it goes

	compression repo.Compression
	dataKey     string // that packs are encrypted to
	keepNotes   func(key string, notes []byte)

	serverManifest bool // is stored, maybe

	nextPack     atomic.Uint64
	read, stored atomic.Int64
	committing   *errgroup.Group

	mu       sync.Mutex
	sizes    []int64 // by entry; -1 while it has not been found
	packs    []PackPieces
	taken    []PackPieces // of packs, those that were left, once the account is entered into a manifest
	suspects []suspect
}

// suspect is a page that failed its checksum.
type suspect struct {
	BadPage
	lsn wal.LSN
}

func newCollector(r *repo.Repo, id ID, start Start, entries []Entry, d *difference, w work) *collector {
	c := &collector{repo: r, id: id, start: start, entries: entries, diff: d, work: w, sizes: make([]int64, len(entries))}
	for i, e := range entries {
		c.sizes[i] = -1
		if w.listed[i] {
			c.sizes[i] = e.Size
		}
	}
	c.total = w.bytes(entries, d)
	return c
}

// run has tasks done by a number of workers.
func (c *collector) run(ctx context.Context, s Session, jobs int, produce producer) error {
	// Packs are committed, which waits for the disk, while their writers go on with the next.
	var cctx context.Context
	c.committing, cctx = errgroup.WithContext(ctx)
	c.committing.SetLimit(jobs)
	workers, wctx := errgroup.WithContext(cctx)
	units := make(chan task)
	workers.Go(func() error {
		defer close(units)
		return produce(wctx, units)
	})
	for range jobs {
		workers.Go(func() error {
			// The pack writers must outlive the workers' group, so they get the context around it.
			w := worker{c: c, ctx: cctx, session: s}
			defer w.close()
			for unit := range units {
				if err := w.task(wctx, unit); err != nil {
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

// arrived adds an entry that a server sends.
func (c *collector) arrived(e Entry) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.sizes = append(c.entries, e), append(c.sizes, -1)
	if c.diff != nil {
		c.diff.read = append(c.diff.read, nil)
	}
	return len(c.entries) - 1
}

// count is how many files are known.
func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// leave notes that an extent of an entry that a server sends is not the base's. They come in order, up to the last.
func (c *collector) leave(entry int, x extent) {
	if c.diff != nil {
		c.diff.read[entry] = coverExtent(c.diff.read[entry], x)
	}
}

// sort brings entries, which came in the server's order, into that of their paths.
func (c *collector) sort() error {
	byPath := func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) }
	if slices.IsSortedFunc(c.entries, byPath) {
		return checkEntries(c.entries, nil)
	}
	order := make([]int, len(c.entries))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return byPath(c.entries[a], c.entries[b]) })
	place := make([]int, len(order))
	entries, sizes := make([]Entry, len(order)), make([]int64, len(order))
	for i, k := range order {
		place[k], entries[i], sizes[i] = i, c.entries[k], c.sizes[k]
	}
	c.entries, c.sizes = entries, sizes
	for _, p := range c.packs {
		for _, pieces := range p.Pieces {
			for i := range pieces {
				pieces[i].File = place[pieces[i].File]
			}
		}
	}
	if d := c.diff; d != nil {
		read := make([][]extent, len(order))
		for i, k := range order {
			read[i] = d.read[k]
		}
		d.read = read
		for i, k := range d.entry {
			if k != gone {
				d.entry[i] = place[k]
			}
		}
	}
	return checkEntries(c.entries, nil)
}

// vanished notes that a file is gone: recovery knows why.
func (c *collector) vanished(file int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes[file] = -1
}

// found notes that a file has bytes up to end.
func (c *collector) found(file int, end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes[file] = max(c.sizes[file], end)
}

// verify checks the checksums of pages that are not stored, since a killed backup has stored them.
func (c *collector) verify(path string, b []byte, off int64) {
	rel, ok := pgfile.ParseRelation(path)
	if !ok || !c.start.Checksums {
		return
	}
	for size := int(c.start.PageSize); len(b) >= size; off, b = off+int64(size), b[size:] {
		if block := c.block(rel, off); !pgfile.PageOK(b[:size], block) {
			c.suspect(path, block, b)
		}
	}
}

// block is the number of the page at an offset of a relation's file, counted over all its files.
func (c *collector) block(rel pgfile.Relation, off int64) uint32 {
	return rel.Segment*c.start.RelSegPages + uint32(off/int64(c.start.PageSize))
}

// suspect notes a page that does not match its checksum.
func (c *collector) suspect(path string, block uint32, page []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspects = append(c.suspects, suspect{BadPage: BadPage{Path: path, Block: block}, lsn: wal.LSN(pgfile.PageLSN(page))})
}

// commit commits a pack on the side.
func (c *collector) commit(w *repo.PackWriter, pieces [][]Piece) {
	c.committing.Go(func() error {
		defer w.Close()
		p, err := w.CommitWithNotes(c.note(w, pieces))
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

// note makes the notes of a pack that is about to be committed, and keeps them on this host; nil is that they are too long.
func (c *collector) note(w *repo.PackWriter, pieces [][]Piece) []byte {
	n := packNotes{dataKey: c.dataKey, frames: w.Frames(), pieces: pieces}
	index := map[int]int{}
	c.mu.Lock() // for a server may send more meanwhile
	for _, all := range pieces {
		for _, p := range all {
			if _, ok := index[p.File]; !ok {
				index[p.File] = len(n.files)
				n.files = append(n.files, c.entries[p.File].Path)
			}
		}
	}
	c.mu.Unlock()
	b := n.append(nil, func(file int) int { return index[file] })
	if len(b) > repo.MaxNotes {
		return nil
	}
	c.keepNotes(w.Key(), b)
	return b
}

// discard deletes the objects of a backup that has failed. What cannot be deleted takes space until a later one takes it
// over, or retention sweeps it, and does no harm.
func (c *collector) discard(ctx context.Context) error {
	if c.serverManifest {
		if err := c.repo.Store().Delete(ctx, serverManifests+string(c.id)); err != nil {
			return err
		}
	}
	for n := range c.nextPack.Load() {
		if err := c.repo.Store().Delete(ctx, c.id.packKey(n+1)); err != nil {
			return err
		}
	}
	return nil
}

// fill enters the account into a manifest. Files that were never found have vanished, and are left out.
func (c *collector) fill(m *Manifest, stop wal.LSN) {
	index := make([]int, len(c.entries))
	m.FileList = make([]File, 0, len(c.entries)) // there may be millions
	for i, e := range c.entries {
		if c.sizes[i] < 0 {
			index[i] = gone
			continue
		}
		index[i] = len(m.FileList)
		m.FileList = append(m.FileList, File{Path: e.Path, Size: c.sizes[i]})
		m.ClusterBytes += c.sizes[i]
	}
	m.Files = len(m.FileList)
	for _, p := range c.packs {
		for f, pieces := range p.Pieces {
			lost := true
			for i := range pieces {
				pieces[i].File = index[pieces[i].File] // which is NoFile for one that has vanished since
				lost = lost && pieces[i].File == NoFile
			}
			if lost {
				p.Pieces[f] = nil
			}
		}
		m.StoredBytes += p.Size
	}
	if c.diff != nil {
		var kept []PackPieces
		kept, c.taken = c.diff.keep(index, c.sizes)
		c.packs = slices.Concat(c.packs, kept, c.taken)
		m.ReusedBytes = reused(c.taken)
		m.BadPageList = c.diff.badPages(index, c.sizes, c.start, c.entries)
	}
	slices.SortFunc(c.packs, func(a, b PackPieces) int { return cmp.Compare(a.Key, b.Key) })
	for _, p := range c.packs {
		for _, pieces := range p.Pieces {
			for _, piece := range pieces {
				if piece.File != NoFile {
					m.FileList[piece.File].Data += int64(piece.Length)
				}
			}
		}
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
