package backup

import (
	"cmp"
	"slices"
	"sync"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// difference is what a backup takes from the one it builds on, the base, and from what killed ones have left. A full backup
// has a base with nothing in it.
type difference struct {
	base  *Manifest
	by    Method
	packs []PackPieces // the base's, and behind them those that were left
	left  int          // index of the first that was left
	entry []int        // by file of the base, and behind them of what was left: the entry with the same path, or gone
	read  [][]extent   // by entry: what is read, and so not taken from the base

	mu       sync.Mutex
	replaced map[int][]extent  // by entry: what is not taken from the base besides
	later    map[int][]extent  // by entry: what of that is not stored at once; nil unless that is to be put off
	fit      map[frameRef]bool // those that were left, and hold what the files do
}

const gone = -1

// newDifference returns the difference to a base of which nothing is known to be there yet.
func newDifference(base *Manifest, by Method) *difference {
	d := &difference{base: base, by: by, packs: base.PackList, left: len(base.PackList), replaced: map[int][]extent{}, fit: map[frameRef]bool{}}
	d.addFiles(len(base.FileList))
	return d
}

// addFiles makes room for files of which nothing is known to be there yet, and returns the index of the first.
func (d *difference) addFiles(n int) int {
	first := len(d.entry)
	d.entry = append(d.entry, slices.Repeat([]int{gone}, n)...)
	return first
}

// frameRef is a frame of the base, or one that was left.
type frameRef struct{ pack, frame int }

// work is what there is to do.
type work struct {
	read    [][]extent // by entry: to be read and stored
	listed  []bool     // by entry: what is not read of it is in the base, up to the size that was listed
	compare []frameRef // to be compared with the files as they are
}

// bytes is how many there are to be read.
func (w work) bytes(entries []Entry, d *difference) (sum int64) {
	for i, all := range w.read {
		for _, x := range all {
			sum += max(0, min(x.to, entries[i].Size)-x.from)
		}
	}
	for _, f := range w.compare {
		sum += int64(d.packs[f.pack].Frames[f.frame].Raw)
	}
	return sum
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
	w.leaveOut(covered)
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

// leaveOut has pieces, of which no two overlap, not read.
func (w work) leaveOut(pieces []piece) {
	slices.SortFunc(pieces, comparePieces)
	for len(pieces) > 0 {
		k, n := pieces[0].entry, 0
		var without []extent
		for n < len(pieces) && pieces[n].entry == k {
			n++
		}
		others := pieces[:n]
		for _, x := range w.read[k] {
			for len(others) > 0 && others[0].from < x.to {
				p := others[0]
				if p.to > x.from {
					if p.from > x.from {
						without = append(without, extent{x.from, p.from})
					}
					x.from = p.to
				}
				if p.to > x.to { // it goes on in the next
					break
				}
				others = others[1:]
			}
			if x.from < x.to {
				without = append(without, x)
			}
		}
		w.read[k], pieces = without, pieces[n:]
	}
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

// putOff notes that bytes of an entry, which are not taken from the base, are to be read later; false is that they are to
// be stored at once.
func (d *difference) putOff(entry int, e extent) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.later == nil {
		return false
	}
	d.later[entry] = addExtent(d.later[entry], e)
	return true
}

// keep returns the packs of the base with what is taken of them, and of those that were left. index has, for each entry,
// its index in the new manifest, or gone; sizes are those of the entries.
func (d *difference) keep(index []int, sizes []int64) (kept, taken []PackPieces) {
	for k, r := range d.replaced {
		d.read[k] = joinExtents(d.read[k], r)
	}
	for i, p := range d.packs {
		k := PackPieces{Pack: p.Pack, Pieces: make([][]Piece, len(p.Pieces))}
		needed := false
		for j, pieces := range p.Pieces {
			switch {
			case i < d.left:
				k.Pieces[j] = d.keepFrame(pieces, d.read, index, sizes)
			case d.fit[frameRef{i, j}]:
				k.Pieces[j] = d.keepFrame(pieces, nil, index, sizes)
			}
			needed = needed || k.Needs(j)
		}
		switch {
		case needed && i < d.left:
			kept = append(kept, k)
		case needed:
			taken = append(taken, k)
		}
	}
	return kept, taken
}

// keepFrame returns the pieces that are taken of a frame, with what is not between them; nil for nothing. read has, for
// each entry, what is not taken; nil is nothing.
func (d *difference) keepFrame(pieces []Piece, read [][]extent, index []int, sizes []int64) []Piece {
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
		var lost []extent
		if read != nil {
			first, _ := slices.BinarySearchFunc(read[k], at, func(e extent, at int64) int { return cmp.Compare(e.to, at+1) })
			lost = read[k][first:]
		}
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
	p := &d.packs[f.pack]
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
