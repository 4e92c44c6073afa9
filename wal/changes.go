package wal

import (
	"math/bits"
	"slices"
)

// gatherer gathers the changes that records make. The zero value is ready.
type gatherer struct {
	files  map[File]*gathered
	recent [16]recent // by the low bits of the relfilenode: records come in runs that change a few files by turns
}

type recent struct {
	file File
	e    *gathered
}

// gathered is what was gathered of one file.
type gathered struct {
	done   []step
	blocks []uint32 // since the last step; in the order of the records, some more than once
	tidy   int      // how many of them are ascending and different

	// seen has most of blocks, each plus one, by the low bits of its number, so that few come twice. It is there once
	// there have been many, and twice as large as there are different ones.
	seen []uint32
}

func (g *gatherer) file(f File) *gathered {
	r := &g.recent[(f.Number^uint32(f.Fork))%uint32(len(g.recent))]
	if r.e != nil && r.file == f {
		return r.e
	}
	e := g.files[f]
	if e == nil {
		if g.files == nil {
			g.files = map[File]*gathered{}
		}
		e = &gathered{}
		g.files[f] = e
	}
	*r = recent{f, e}
	return e
}

// blocksPerMapPage is how many blocks of a relation a page of 8 KiB of its visibility map tells of
// (HEAPBLOCKS_PER_PAGE of visibilitymap.c).
const blocksPerMapPage = (8192 - 24) * 4

// record adds what a record changes, whose payload was decoded (SummarizeWAL of walsummarizer.c).
func (g *gatherer) record(r *Record, payload any) {
	switch p := payload.(type) {
	case *DatabaseCreate:
		g.cut(File{Relation: Relation{Tablespace: p.Tablespace, Database: p.Database}}, 0)
	case *DatabaseDrop:
		for _, t := range p.Tablespaces {
			g.cut(File{Relation: Relation{Tablespace: t, Database: p.Database}}, 0)
		}
	case *RelationCreate:
		g.cut(File{Relation: p.Relation, Fork: p.Fork}, 0)
	case *RelationTruncate:
		if p.Main {
			g.cut(File{Relation: p.Relation, Fork: MainFork}, p.Block)
		}
		if p.Visibility {
			g.cut(File{Relation: p.Relation, Fork: VisibilityMapFork}, (p.Block+blocksPerMapPage-1)/blocksPerMapPage)
		}
	case *Transaction:
		if p.Outcome != Prepared {
			for _, d := range p.Dropped {
				for f := MainFork; f <= InitFork; f++ {
					g.cut(File{Relation: d, Fork: f}, 0)
				}
			}
		}
	}
	for _, b := range r.Blocks {
		if b.Fork != FSMFork {
			g.file(File{Relation: b.Relation, Fork: b.Fork}).mark(b.Block)
		}
	}
}

func (e *gathered) mark(block uint32) {
	if len(e.seen) > 0 {
		s := &e.seen[int(block)&(len(e.seen)-1)]
		if *s == block+1 && block != noLimit { // which is no block, but may be in a damaged record
			return
		}
		*s = block + 1
	} else if n := len(e.blocks); n > 0 && e.blocks[n-1] == block {
		return
	}
	e.blocks = append(e.blocks, block)
	if len(e.blocks) > 2*e.tidy+4096 { // memory is bounded by the blocks that are different
		e.clean()
		e.see()
	}
}

// clean puts the blocks in order.
func (e *gathered) clean() {
	slices.Sort(e.blocks)
	e.blocks = slices.Compact(e.blocks)
	e.tidy = len(e.blocks)
}

// see makes seen anew.
func (e *gathered) see() {
	if size := 1 << bits.Len(uint(2*e.tidy)); size > len(e.seen) {
		e.seen = make([]uint32, size)
	}
	for _, block := range e.blocks {
		e.seen[int(block)&(len(e.seen)-1)] = block + 1
	}
}

// cut ends a step. One that cuts no more than the one before it did, with nothing in between, is no step.
func (g *gatherer) cut(f File, limit uint32) {
	if f.Fork == FSMFork {
		return
	}
	e := g.file(f)
	if n := len(e.done); n > 0 && len(e.blocks) == 0 && e.done[n-1].limit <= limit {
		return
	}
	e.clean()
	e.done = append(e.done, step{blocks: e.blocks, limit: limit})
	e.blocks, e.tidy = nil, 0
	clear(e.seen)
}

// changes returns what was gathered.
func (g *gatherer) changes() changes {
	all := make(changes, len(g.files))
	for f, e := range g.files {
		steps := e.done
		if len(e.blocks) > 0 {
			e.clean()
			steps = append(steps, step{blocks: e.blocks, limit: noLimit})
		}
		all[f] = steps
	}
	return all
}
