package backup

import (
	"cmp"
	"slices"
	"sync"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// difference is what a backup takes from the one it builds on.
type difference struct {
	base  *Manifest
	by    Method
	full  bool       // the base is what killed backups have left, and nobody has seen to its pages' checksums
	entry []int      // by file of the base: the index of the entry with the same path, or gone
	read  [][]extent // by entry: what is read, and so not taken from the base

	mu       sync.Mutex
	replaced map[int][]extent // by entry: what is not taken from the base besides
}

const gone = -1

// newDifference returns the difference to a base of which nothing is known to be there yet.
func newDifference(base *Manifest, by Method) *difference {
	d := &difference{base: base, by: by, entry: make([]int, len(base.FileList)), replaced: map[int][]extent{}}
	for i := range d.entry {
		d.entry[i] = gone
	}
	return d
}

// frameRef is a frame of the base.
type frameRef struct{ pack, frame int }

// work is what there is to do.
type work struct {
	read    [][]extent // by entry: to be read and stored
	listed  []bool     // by entry: what is not read of it is in the base, up to the size that was listed
	compare []frameRef // of the base: to be compared with the files as they are
}

// all is the work of a full backup.
func all(entries []Entry) work {
	w := work{read: make([][]extent, len(entries)), listed: make([]bool, len(entries))}
	whole := []extent{{0, toEnd}} // there may be millions of files
	for i := range entries {
		w.read[i] = whole
	}
	return w
}

// subtract finds the work that remains when a base is built on. blocks are those that have changed in relations since;
// nil is that nobody knows, so that every page has to be read.
func subtract(base *Manifest, entries []Entry, start Start, blocks *wal.Blocks, by Method) (*difference, work) {
	w := all(entries)
	d := newDifference(base, by)
	d.read = w.read
	compared := make([]bool, len(entries))
	ranges := changedRanges{blocks: blocks, start: start}
	for i, f := range base.FileList {
		k, found := slices.BinarySearchFunc(entries, f.Path, func(e Entry, p string) int { return cmp.Compare(e.Path, p) })
		if !found {
			continue
		}
		d.entry[i] = k
		if r, ok := logged(f.Path); ok && blocks != nil {
			w.read[k] = ranges.of(r, f.Size, entries[k].Size)
			w.listed[k] = w.read[k][0] != extent{0, toEnd}
		} else {
			compared[k] = true
		}
	}
	// What no frame can be compared for is read.
	var covered []piece
	for p := range base.PackList {
		for f, pieces := range base.PackList[p].Pieces {
			if !d.comparable(pieces, compared, entries) {
				continue
			}
			w.compare = append(w.compare, frameRef{p, f})
			for _, c := range pieces {
				if k := d.entryOf(c); k != gone {
					covered = append(covered, piece{k, extent{c.Offset, c.Offset + int64(c.Length)}})
				}
			}
		}
	}
	slices.SortFunc(covered, comparePieces)
	for len(covered) > 0 {
		k := covered[0].entry
		w.read[k], covered = between(covered)
	}
	base.FileList, base.Catalog = nil, nil // there may be millions of either, and none is needed any more
	return d, w
}

// piece is a part of a file that a frame holds.
type piece struct {
	entry int // of the list that the file is in
	extent
}

func comparePieces(a, b piece) int {
	return cmp.Or(cmp.Compare(a.entry, b.entry), cmp.Compare(a.from, b.from))
}

// between returns what lies between the pieces of the first entry, and before and behind them, and the pieces of others.
func between(pieces []piece) (gaps []extent, others []piece) {
	at, n := int64(0), 0
	for ; n < len(pieces) && pieces[n].entry == pieces[0].entry; n++ {
		if pieces[n].from > at {
			gaps = append(gaps, extent{at, pieces[n].from})
		}
		at = pieces[n].to
	}
	return append(gaps, extent{at, toEnd}), pieces[n:]
}

// entryOf is the index of the entry that a piece belongs to, or gone.
func (d *difference) entryOf(p Piece) int {
	if p.File == NoFile {
		return gone
	}
	return d.entry[p.File]
}

// comparable tells whether a frame can be compared: as a whole, when all its files are there, and either all of them are
// of relations or none; of one that is needed in part, the pages of relations can be, by their LSNs.
func (d *difference) comparable(pieces []Piece, compared []bool, entries []Entry) bool {
	pages, others, lost := 0, 0, 0
	for _, p := range pieces {
		k := d.entryOf(p)
		if k == gone {
			lost++
			continue
		}
		if !compared[k] {
			return false
		}
		if _, ok := logged(entries[k].Path); ok {
			pages++
		} else {
			others++
		}
	}
	if lost > 0 {
		return d.by == ByLSN && pages > 0 && others == 0
	}
	return pages+others > 0 && (pages == 0 || others == 0)
}

// replace notes that bytes of an entry are not taken from the base.
func (d *difference) replace(entry int, e extent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replaced[entry] = addExtent(d.replaced[entry], e)
}

// keep returns the packs of the base with what is taken of them. index has, for each entry, its index in the new
// manifest, or gone; sizes are those of the entries.
func (d *difference) keep(index []int, sizes []int64) []PackPieces {
	for k, r := range d.replaced {
		d.read[k] = slices.Concat(d.read[k], r)
		slices.SortFunc(d.read[k], func(a, b extent) int { return cmp.Compare(a.from, b.from) })
	}
	var packs []PackPieces
	for _, p := range d.base.PackList {
		kept := PackPieces{Pack: p.Pack, Pieces: make([][]Piece, len(p.Pieces))}
		needed := false
		for i, pieces := range p.Pieces {
			kept.Pieces[i] = d.keepFrame(pieces, index, sizes)
			needed = needed || kept.Needs(i)
		}
		if needed {
			packs = append(packs, kept)
		}
	}
	return packs
}

// keepFrame returns the pieces that are taken of a frame, with what is not between them; nil for nothing.
func (d *difference) keepFrame(pieces []Piece, index []int, sizes []int64) []Piece {
	var kept []Piece
	found := false
	put := func(p Piece) {
		if n := len(kept); p.File == NoFile && n > 0 && kept[n-1].File == NoFile {
			kept[n-1].Length += p.Length
		} else if p.Length > 0 {
			kept = append(kept, p)
		}
		found = found || p.File != NoFile && p.Length > 0
	}
	for _, p := range pieces {
		k := d.entryOf(p)
		if k == gone || index[k] == gone {
			put(Piece{File: NoFile, Length: p.Length})
			continue
		}
		at, end := p.Offset, p.Offset+int64(p.Length)
		replaced := d.read[k]
		first, _ := slices.BinarySearchFunc(replaced, at, func(e extent, at int64) int { return cmp.Compare(e.to, at+1) })
		lost := replaced[first:]
		for at < end {
			next := end // of what is kept from here on
			if len(lost) > 0 {
				next = min(end, max(at, lost[0].from))
			}
			next = max(at, min(next, sizes[k]))
			put(Piece{File: index[k], Offset: at, Length: int(next - at)})
			if at = next; at == end {
				break
			}
			if at >= sizes[k] {
				next = end
			} else {
				next = min(end, lost[0].to)
				lost = lost[1:]
			}
			put(Piece{File: NoFile, Length: int(next - at)})
			at = next
		}
	}
	if !found {
		return nil
	}
	return kept
}

// badPages are those that are taken from the base.
func (d *difference) badPages(index []int, sizes []int64, start Start, entries []Entry) []BadPage {
	var kept []BadPage
	for _, b := range d.base.BadPageList {
		k, found := slices.BinarySearchFunc(entries, b.Path, func(e Entry, p string) int { return cmp.Compare(e.Path, p) })
		r, ok := pgfile.ParseRelation(b.Path)
		if !found || !ok || index[k] == gone {
			continue
		}
		off := int64(b.Block-r.Segment*start.RelSegPages) * int64(start.PageSize)
		lost := slices.ContainsFunc(d.read[k], func(e extent) bool { return e.from <= off && off < e.to })
		if !lost && off < sizes[k] {
			kept = append(kept, b)
		}
	}
	return kept
}

// hash is what a frame had when it was stored, if all of it is needed.
func (d *difference) hash(f frameRef) (repo.Hash, bool) {
	p := &d.base.PackList[f.pack]
	for _, c := range p.Pieces[f.frame] {
		if d.entryOf(c) == gone {
			return repo.Hash{}, false
		}
	}
	return p.Frames[f.frame].Hash, true
}

// changed tells by its LSN whether a page has changed since the base was begun. A page without one may be anything.
func (d *difference) changed(page []byte, size int) bool {
	if len(page) < size {
		return true
	}
	lsn := wal.LSN(pgfile.PageLSN(page))
	return lsn == 0 || lsn >= d.base.StartLSN
}
