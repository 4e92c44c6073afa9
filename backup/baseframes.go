package backup

import (
	"cmp"
	"slices"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
)

// baseFrames are the frames of a base that can be compared with files as these come: each is of one file only, and from
// one end to the other no longer than what is held in memory. The zero value is that of no base.
type baseFrames struct {
	base *Manifest
	of   map[int][]baseFrame // by file of the base, in the order of the file
	had  map[int][]extent    // of files that go by LSN: what the base has of them, ascending, as long as can be
}

// baseFrame is a frame, and what of the file it spans.
type baseFrame struct {
	extent
	frameRef
}

// newBaseFrames finds the frames of a base of the files that a function tells.
func newBaseFrames(base *Manifest, compared func(path string) bool) baseFrames {
	b := baseFrames{base: base, of: map[int][]baseFrame{}}
	for i, p := range base.PackList {
		for j, pieces := range p.Pieces {
			x, ok := spanOf(pieces)
			if ok && compared(base.FileList[pieces[0].File].Path) {
				b.of[pieces[0].File] = append(b.of[pieces[0].File], baseFrame{x, frameRef{i, j}})
			}
		}
	}
	for _, frames := range b.of {
		slices.SortFunc(frames, func(a, b baseFrame) int { return cmp.Compare(a.from, b.from) })
	}
	// Those that lie between pieces of another cannot be compared beside it.
	for f, frames := range b.of {
		end := int64(0)
		b.of[f] = slices.DeleteFunc(frames, func(x baseFrame) bool {
			if x.from < end {
				return true
			}
			end = x.to
			return false
		})
	}
	return b
}

// spanOf returns from where to where pieces of one file go, if they are all needed, in order, and near each other.
func spanOf(pieces []Piece) (x extent, ok bool) {
	if len(pieces) == 0 || pieces[0].File == NoFile {
		return extent{}, false
	}
	x = extent{pieces[0].Offset, pieces[0].Offset}
	for _, p := range pieces {
		if p.File != pieces[0].File || p.Offset < x.to {
			return extent{}, false
		}
		x.to = p.Offset + int64(p.Length)
	}
	return x, x.to-x.from <= sentUnit
}

// in returns the first frame of a file that begins in an extent, if it ends there too.
func (b baseFrames) in(file int, x extent) (baseFrame, bool) {
	frames := b.of[file]
	i, _ := slices.BinarySearchFunc(frames, x.from, func(f baseFrame, from int64) int { return cmp.Compare(f.from, from) })
	if file == gone || i == len(frames) || frames[i].to > x.to {
		return baseFrame{}, false
	}
	return frames[i], true
}

// findHad finds what the base has of relations' files.
func (b *baseFrames) findHad() {
	b.had = map[int][]extent{}
	for _, p := range b.base.PackList {
		for _, pieces := range p.Pieces {
			for _, c := range pieces {
				if c.File == NoFile {
					continue
				}
				if _, ok := logged(b.base.FileList[c.File].Path); ok {
					b.had[c.File] = addExtent(b.had[c.File], extent{c.Offset, c.Offset + int64(c.Length)})
				}
			}
		}
	}
	for f, had := range b.had {
		slices.SortFunc(had, func(a, b extent) int { return cmp.Compare(a.from, b.from) })
		joined := had[:0]
		for _, x := range had {
			joined = addExtent(joined, x)
		}
		b.had[f] = joined
	}
}

// file returns the index of a file of the base, or gone.
func (b baseFrames) file(path string) int {
	if b.base == nil {
		return gone
	}
	i, found := slices.BinarySearchFunc(b.base.FileList, path, func(f File, p string) int { return cmp.Compare(f.Path, p) })
	if !found {
		return gone
	}
	return i
}

// same tells whether what a frame spans of a file is as it was. What lies between its pieces was zero.
func (b baseFrames) same(f baseFrame, content []byte) bool {
	p := &b.base.PackList[f.pack]
	pieces, hash := p.Pieces[f.frame], p.Frames[f.frame].Hash
	if len(pieces) == 1 {
		return repo.HashOf(content) == hash
	}
	packed := make([]byte, 0, p.Frames[f.frame].Raw)
	at := f.from
	for _, c := range pieces {
		if !pgfile.Zero(content[at-f.from : c.Offset-f.from]) {
			return false
		}
		at = c.Offset + int64(c.Length)
		packed = append(packed, content[c.Offset-f.from:at-f.from]...)
	}
	return repo.HashOf(packed) == hash
}
