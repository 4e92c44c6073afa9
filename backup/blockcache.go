package backup

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	cachedBlock  = 1 << 20 // bytes, that are read at once
	cachedBlocks = 64      // that are kept at most
	passedOn     = 16      // after so many later ones, who has not had all of a block does not want the rest
)

// blockCache keeps what one reader of files has read until the others have it too. Each gets what is kept once: who reads
// again, as a page that may have been torn, reads anew.
type blockCache struct {
	ctx      context.Context //nolint:containedctx // as that of shared
	patience time.Duration
	spare    sync.Pool // of *[]byte

	mu      sync.Mutex
	readers map[int]int // for whom blocks are kept, and the latest that each has touched
	made    int         // blocks
	blocks  map[blockKey]*block
	oldest  []*block      // in the order in which they were made
	room    chan struct{} // closed when there may be room again
}

type blockKey struct {
	path   string
	number int64
}

// block is a part of a file.
type block struct {
	key   blockKey
	made  int             // how many were made before, and this
	ready chan struct{}   // closed when it has been read
	data  []byte          // shorter than cachedBlock at the end of the file
	err   error           // it could not be read
	owed  map[int][]Range // by reader, what it has had
}

func newBlockCache(ctx context.Context, patience time.Duration) *blockCache {
	return &blockCache{
		ctx: ctx, patience: patience, readers: map[int]int{}, blocks: map[blockKey]*block{}, room: make(chan struct{}),
	}
}

func (c *blockCache) join(reader int) { c.readers[reader] = 0 }

// leave keeps nothing more for a reader.
func (c *blockCache) leave(reader int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(reader)
}

// forget is leave with c.mu held.
func (c *blockCache) forget(reader int) {
	delete(c.readers, reader)
	for _, b := range slices.Clone(c.oldest) {
		delete(b.owed, reader)
		c.sweep(b)
	}
}

// sweep lets go of a block that is owed to nobody. c.mu is held.
func (c *blockCache) sweep(b *block) {
	if len(b.owed) > 0 || c.blocks[b.key] != b {
		return
	}
	delete(c.blocks, b.key)
	c.oldest = slices.DeleteFunc(c.oldest, func(x *block) bool { return x == b })
	close(c.room)
	c.room = make(chan struct{})
}

// passOver lets go of blocks of which nobody wants the rest: files are read to the size that they had when they were
// listed, and may have more by now. c.mu is held.
func (c *blockCache) passOver() {
	for len(c.oldest) > 0 {
		b := c.oldest[0]
		for reader := range b.owed {
			if c.readers[reader] > b.made+passedOn {
				delete(b.owed, reader)
			}
		}
		if len(b.owed) > 0 {
			return
		}
		c.sweep(b)
	}
}

// readAt reads from blocks that are kept, or have to be read.
func (c *blockCache) readAt(f *sharedContent, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		want := p[n:min(len(p), n+int(cachedBlock-at%cachedBlock))]
		k, err := c.part(f, want, at)
		if n += k; err != nil {
			return n, err
		}
		if k < len(want) {
			return n, io.EOF
		}
	}
	return n, nil
}

// part is readAt within a block.
func (c *blockCache) part(f *sharedContent, p []byte, off int64) (int, error) {
	reader, key := f.m.number, blockKey{f.path, off / cachedBlock}
	from := int(off % cachedBlock)
	b, mine := c.find(reader, key, Range{Offset: int64(from), Length: len(p)})
	if b == nil {
		return f.read(p, off)
	}
	if mine {
		b.data, b.err = c.load(f, key)
		close(b.ready)
	}
	select {
	case <-b.ready:
	case <-c.ctx.Done():
		return 0, c.ctx.Err()
	}
	c.mu.Lock()
	if b.err != nil {
		b.owed = nil
		c.sweep(b)
		c.mu.Unlock()
		return f.read(p, off) // which fails by itself
	}
	n := copy(p, b.data[min(from, len(b.data)):])
	if had, ok := b.owed[reader]; ok && covers(had, len(b.data)) {
		delete(b.owed, reader)
	}
	c.sweep(b)
	c.mu.Unlock()
	return n, nil
}

// load reads a block. Small files take no more memory than they have.
func (c *blockCache) load(f *sharedContent, key blockKey) ([]byte, error) {
	buf, ok := c.spare.Get().(*[]byte)
	if !ok {
		buf = new(make([]byte, cachedBlock))
	}
	n, err := f.read(*buf, key.number*cachedBlock)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if n > cachedBlock/2 {
		return (*buf)[:n], err
	}
	defer c.spare.Put(buf)
	return slices.Clone((*buf)[:n]), err
}

// find returns the block that a reader is to have a range of; mine, that it has to read it. Nil is to read by itself.
func (c *blockCache) find(reader int, key blockKey, r Range) (b *block, mine bool) {
	late := time.NewTimer(c.patience)
	defer late.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if _, kept := c.readers[reader]; !kept {
			return nil, false
		}
		c.passOver()
		if b = c.blocks[key]; b != nil {
			had, owed := b.owed[reader]
			if !owed || overlaps(had, r) {
				return nil, false
			}
			b.owed[reader] = append(had, r)
			c.readers[reader] = max(c.readers[reader], b.made)
			return b, false
		}
		if len(c.readers) == 1 {
			return nil, false // nobody else wants it
		}
		if len(c.blocks) < cachedBlocks {
			break
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-c.ctx.Done():
		case <-late.C:
			c.leaveBehind(reader)
		}
		c.mu.Lock()
		if c.ctx.Err() != nil {
			return nil, false
		}
	}
	c.made++
	c.readers[reader] = c.made
	b = &block{key: key, made: c.made, ready: make(chan struct{}), owed: map[int][]Range{}}
	for other := range c.readers {
		b.owed[other] = nil
	}
	b.owed[reader] = []Range{r}
	c.blocks[key], c.oldest = b, append(c.oldest, b)
	return b, true
}

// leaveBehind keeps nothing more for those who hold up a reader.
func (c *blockCache) leaveBehind(reader int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.oldest) == 0 {
		return
	}
	behind := false
	for other := range c.oldest[0].owed {
		if other != reader {
			behind = true
			c.forget(other)
		}
	}
	if !behind {
		c.forget(reader) // which has left blocks behind itself
	}
}

func overlaps(had []Range, r Range) bool {
	return slices.ContainsFunc(had, func(h Range) bool {
		return h.Offset < r.Offset+int64(r.Length) && r.Offset < h.Offset+int64(h.Length)
	})
}

// covers tells whether ranges that do not overlap are all of n bytes.
func covers(had []Range, n int) bool {
	total := 0
	for _, h := range had {
		total += max(0, min(h.Length, n-int(h.Offset)))
	}
	return total >= n
}
