package backup

import (
	"cmp"
	"slices"
)

// addLeft adds what killed backups have left behind the packs of the base. Of their files nothing is known to be there
// yet; it returns the index of the first.
func (d *difference) addLeft(left *Manifest) (first int) {
	first = d.addFiles(len(left.FileList))
	for _, p := range left.PackList {
		for _, pieces := range p.Pieces {
			for i := range pieces {
				pieces[i].File += first
			}
		}
	}
	d.packs = append(d.packs, left.PackList...)
	return first
}

// findLeft finds the entries of the files of what was left, the first of which is known.
func (d *difference) findLeft(first int, files []File, entries []Entry) {
	for i, f := range files {
		if k, found := slices.BinarySearchFunc(entries, f.Path, func(e Entry, p string) int { return cmp.Compare(e.Path, p) }); found {
			d.entry[first+i] = k
		}
	}
}

// hasLeft tells whether killed backups have left anything.
func (d *difference) hasLeft() bool { return d != nil && d.left < len(d.packs) }

// wasLeft tells whether a frame is one that was left, so that nobody has seen to the checksums of its pages.
func (d *difference) wasLeft(f frameRef) bool { return f.pack >= d.left }

// fits notes that a frame that was left holds what the files do.
func (d *difference) fits(f frameRef) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fit[f] = true
}

// takeLeft moves work from what is to be read to what is to be compared: what frames that were left hold of it. What the
// base has, or what has changed in part only, such a frame is no use for; nor is a pack that would take more space than it
// saves, for as long as the backup is there.
func (d *difference) takeLeft(entries []Entry, w *work) {
	d.read = slices.Clone(w.read) // what the base is not needed for stays
	for k, more := range d.later {
		w.read[k] = joinExtents(w.read[k], more)
	}
	d.later = nil
	left := d.packs[d.left:]
	for p := range left {
		for f, pieces := range left[p].Pieces {
			if !d.wanted(pieces, entries, w.read) {
				left[p].Pieces[f] = nil
			}
		}
	}
	dropOverlaps(left)
	w.compare = nil
	var covered []piece
	for p := range left {
		all := int64(0)
		for _, f := range left[p].Frames {
			all += int64(f.Stored)
		}
		if 2*reused(left[p:p+1]) < all {
			continue
		}
		for f, pieces := range left[p].Pieces {
			if pieces == nil {
				continue
			}
			w.compare = append(w.compare, frameRef{d.left + p, f})
			for _, c := range pieces {
				covered = append(covered, piece{d.entryOf(c), extent{c.Offset, c.Offset + int64(c.Length)}})
			}
		}
	}
	w.leaveOut(covered)
}

// wanted tells whether all that a frame holds is to be read, and of one kind.
func (d *difference) wanted(pieces []Piece, entries []Entry, read [][]extent) bool {
	pages := 0
	for _, p := range pieces {
		k := d.entryOf(p)
		if k == gone || !within(read[k], extent{p.Offset, p.Offset + int64(p.Length)}) {
			return false
		}
		if _, ok := logged(entries[k].Path); ok {
			pages++
		}
	}
	return len(pieces) > 0 && (pages == 0 || pages == len(pieces))
}

// dropOverlaps leaves no two frames that hold the same bytes of a file: what was stored later is likelier to be what the
// file holds now, so the earlier frame is not needed.
func dropOverlaps(all []PackPieces) {
	type owned struct {
		piece
		frameRef
	}
	var pieces []owned
	for p := range all {
		for f := range all[p].Pieces {
			for _, c := range all[p].Pieces[f] {
				pieces = append(pieces, owned{piece{c.File, extent{c.Offset, c.Offset + int64(c.Length)}}, frameRef{p, f}})
			}
		}
	}
	slices.SortFunc(pieces, func(a, b owned) int { return comparePieces(a.piece, b.piece) })
	dropped := func(f frameRef) bool { return all[f.pack].Pieces[f.frame] == nil }
	last := owned{piece: piece{entry: NoFile}} // whose frame is kept; those before it end before it begins
	for _, p := range pieces {
		if dropped(p.frameRef) {
			continue
		}
		if last.entry == p.entry && p.from < last.to && !dropped(last.frameRef) {
			older := p.frameRef
			if cmp.Or(cmp.Compare(last.pack, p.pack), cmp.Compare(last.frame, p.frame)) <= 0 {
				older = last.frameRef
			}
			all[older.pack].Pieces[older.frame] = nil
		}
		if !dropped(p.frameRef) {
			last = p
		}
	}
}
