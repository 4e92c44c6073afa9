package restore

import (
	"cmp"
	"slices"
	"sort"

	"github.com/pgcairn/pgcairn/backup"
)

// fsIndex tells where the bytes of each file are. A manifest tells it the other way round: which bytes are in each frame.
type fsIndex struct {
	manifest *backup.Manifest
	first    []int     // of each file, and behind the last: where its places begin
	places   []fsPlace // by file, then by offset in it
}

// fsPlace is where a piece of a file is. It takes 16 bytes; the rest the manifest has.
type fsPlace struct {
	pack  uint32 // in PackList
	piece uint32 // of the frame
	at    uint32 // in the frame's raw bytes
	frame uint16 // of the pack, which has 8,192 at most
}

func newFSIndex(m *backup.Manifest) *fsIndex {
	x := &fsIndex{manifest: m, first: make([]int, len(m.FileList)+1)}
	each := func(f func(file int, p fsPlace)) {
		for i, pack := range m.PackList {
			for j, pieces := range pack.Pieces {
				at := 0
				for k, c := range pieces {
					if c.File != backup.NoFile {
						f(c.File, fsPlace{pack: uint32(i), frame: uint16(j), piece: uint32(k), at: uint32(at)})
					}
					at += c.Length
				}
			}
		}
	}
	each(func(file int, _ fsPlace) { x.first[file+1]++ })
	for i := range m.FileList {
		x.first[i+1] += x.first[i]
	}
	x.places = make([]fsPlace, x.first[len(m.FileList)])
	next := slices.Clone(x.first)
	each(func(file int, p fsPlace) {
		x.places[next[file]] = p
		next[file]++
	})
	for i := range m.FileList {
		slices.SortFunc(x.of(i), func(a, b fsPlace) int { return cmp.Compare(x.piece(a).Offset, x.piece(b).Offset) })
	}
	return x
}

func (x *fsIndex) of(file int) []fsPlace { return x.places[x.first[file]:x.first[file+1]] }

func (x *fsIndex) piece(p fsPlace) *backup.Piece {
	return &x.manifest.PackList[p.pack].Pieces[p.frame][p.piece]
}

// from returns the places of a file that reach beyond an offset.
func (x *fsIndex) from(file int, off int64) []fsPlace {
	all := x.of(file)
	return all[sort.Search(len(all), func(i int) bool {
		p := x.piece(all[i])
		return p.Offset+int64(p.Length) > off
	}):]
}
