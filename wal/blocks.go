package wal

import (
	"cmp"
	"iter"
	"maps"
	"math/bits"
	"slices"
)

// File is one fork of a relation, which on disk is one file or, above 1 GiB, several. Number 0 stands for all relations
// of the database in the tablespace.
type File struct {
	Relation
	Fork ForkNumber
}

func compareFiles(a, b File) int {
	return cmp.Or(cmp.Compare(a.Tablespace, b.Tablespace), cmp.Compare(a.Database, b.Database), cmp.Compare(a.Number, b.Number),
		cmp.Compare(a.Fork, b.Fork))
}

// Blocks are the blocks that a stretch of WAL changes, by file: what an incremental backup has to copy. It knows what
// the server's own WAL summaries know, and like them leaves out free space maps, which are not fully in the WAL
// (walsummarizer.c, blkreftable.c). The zero value is empty. It is not safe for concurrent use.
type Blocks struct {
	files map[File]*fileBlocks
}

// fileBlocks is what is known of one file.
type fileBlocks struct {
	limit   uint32            // noLimit when there is none
	changed map[uint32]uint64 // by the number of the block divided by 64, a bit for each of those 64
}

// noLimit is InvalidBlockNumber.
const noLimit = ^uint32(0)

// Files yields the files that are changed, in the order of tablespace, database, number and fork.
func (b *Blocks) Files() iter.Seq[File] {
	return slices.Values(slices.SortedFunc(maps.Keys(b.files), compareFiles))
}

// Mark adds a block that is changed after everything that was added before.
func (b *Blocks) Mark(f File, block uint32) { b.file(f).changed[block>>6] |= 1 << (block & 63) }

// Cut adds that a file is cut off to limit blocks, or made anew with so many, after everything that was added before.
func (b *Blocks) Cut(f File, limit uint32) {
	if e := b.file(f); limit < e.limit {
		e.cut(limit)
	}
}

// Limit returns the shortest length in blocks that a file had: it was created with it, or cut off there. From there on
// its blocks are new, whether they are among those changed or not. ok is false when it only grew. Of a visibility map
// that was cut off it is right for pages of 8 KiB only; in a cluster with others, take 0.
func (b *Blocks) Limit(f File) (limit uint32, ok bool) {
	if e := b.files[f]; e != nil && e.limit != noLimit {
		return e.limit, true
	}
	return 0, false
}

// Changed returns the numbers of the changed blocks, ascending.
func (b *Blocks) Changed(f File) []uint32 {
	e := b.files[f]
	if e == nil {
		return nil
	}
	var all []uint32
	for _, k := range slices.Sorted(maps.Keys(e.changed)) {
		for mask := e.changed[k]; mask != 0; mask &= mask - 1 {
			all = append(all, k<<6|uint32(bits.TrailingZeros64(mask)))
		}
	}
	return all
}

func (b *Blocks) file(f File) *fileBlocks {
	e := b.files[f]
	if e == nil {
		e = &fileBlocks{limit: noLimit, changed: map[uint32]uint64{}}
		if b.files == nil {
			b.files = map[File]*fileBlocks{}
		}
		b.files[f] = e
	}
	return e
}

// replay adds changes that come after those that are there.
func (b *Blocks) replay(c changes) {
	for f, steps := range c {
		e := b.file(f)
		for _, s := range steps {
			for _, n := range s.blocks {
				e.changed[n>>6] |= 1 << (n & 63)
			}
			if s.limit >= e.limit { // BlockRefTableEntrySetLimitBlock
				continue
			}
			e.cut(s.limit)
		}
	}
}

// cut forgets the blocks from limit on.
func (e *fileBlocks) cut(limit uint32) {
	e.limit = limit
	maps.DeleteFunc(e.changed, func(k uint32, _ uint64) bool { return k > limit>>6 })
	if mask := e.changed[limit>>6] & (1<<(limit&63) - 1); mask != 0 {
		e.changed[limit>>6] = mask
	} else {
		delete(e.changed, limit>>6)
	}
}

// changes are what a stretch of WAL does to files, in order, so that stretches can be put together whatever was known
// of the file before: what a truncation removes depends on that.
type changes map[File][]step

// step is that blocks were changed and then, unless limit is noLimit, the file cut off. Only the last step of a file
// may be without a limit.
type step struct {
	blocks []uint32 // ascending, each once
	limit  uint32
}
