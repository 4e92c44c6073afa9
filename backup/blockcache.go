package backup

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	sharedBlock = 1 << 20  // bytes of a block where files are read whole: it is read at once
	sharedPage  = 8 << 10  // and at most where they are read in part: only what is asked for is read
	sharedBytes = 64 << 20 // that are kept at most
	passedOn    = 16 << 20 // after so many later bytes, who has not had all of a block does not want the rest
)

// blockCache keeps what one reader of files has read until the others have it too. Each gets what is kept once: who reads
// again, as a page that may have been torn, reads anew.
type blockCache struct {
	ctx      context.Context //nolint:containedctx // as that of shared
	patience time.Duration
	size     int64     // of a block, at most
	spare    sync.Pool // of *[]byte of that size

	mu      sync.Mutex
	readers map[int]int64 // for whom blocks are kept, and the latest that each has touched
	made    int64         // bytes that were read so far
	held    int64         // bytes that are kept
	blocks  map[blockKey]*block
	oldest  []*block      // in the order in which they were made
	room    chan struct{} // closed when there may be room again
}

type blockKey struct {
	path string
	off  int64
	n    int
}

// block is a part of a file.
type block struct {
	key   blockKey
	made  int64           // how many bytes were read before it
	held  int64           // bytes
	ready chan struct{}   // closed when it has been read
	data  []byte          // shorter than a block at the end of the file
	err   error           // it could not be read
	owed  map[int][]Range // by reader, what it has had
}

// newBlockCache makes one for files that are read whole, or in part.
func newBlockCache(ctx context.Context, patience time.Duration, whole bool) *blockCache {
	c := &blockCache{
		ctx: ctx, patience: patience, size: sharedPage, readers: map[int]int64{}, blocks: map[blockKey]*block{}, room: make(chan struct{}),
	}
	if whole {
		c.size = sharedBlock
	}
	return c
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
	c.held -= b.held
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

// loaded gives a block what was read of it, by the reader whose it is.
func (c *blockCache) loaded(b *block, data []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.data, b.err = data, err
	c.made += int64(len(data))
	if c.blocks[b.key] == b {
		c.held += int64(cap(data)) - b.held
		b.held = int64(cap(data))
	}
	close(b.ready)
}

// take copies what a block has from an offset in it for a reader, who has asked for it by find; ok is false where the block
// could not be read.
func (c *blockCache) take(reader int, b *block, p []byte, from int) (n int, ok bool, err error) {
	select {
	case <-b.ready:
	case <-c.ctx.Done():
		return 0, false, c.ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.sweep(b)
	if b.err != nil {
		b.owed = nil
		return 0, false, nil
	}
	if had, owed := b.owed[reader]; owed && covers(had, len(b.data)) {
		delete(b.owed, reader)
	}
	return copy(p, b.data[min(from, len(b.data)):]), true, nil
}

// find returns the block that a reader is to have a range of; mine, that it has to read it, and to call loaded. Nil is to
// read by itself, as it does where there is no room and it may not wait for it, or is not the first: who is behind and
// wants what is not kept may be the only one to want it.
func (c *blockCache) find(reader int, key blockKey, r Range, wait bool) (b *block, mine bool) {
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
		if c.held+int64(key.n) <= sharedBytes {
			break
		}
		if !wait || c.behind(reader) {
			c.readers[reader] += int64(key.n)
			return nil, false
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
	c.readers[reader] = max(c.readers[reader], c.made)
	b = &block{key: key, made: c.made, held: int64(key.n), ready: make(chan struct{}), owed: map[int][]Range{}}
	c.held += b.held
	for other := range c.readers {
		b.owed[other] = nil
	}
	b.owed[reader] = []Range{r}
	c.blocks[key], c.oldest = b, append(c.oldest, b)
	return b, true
}

// behind tells whether somebody has read on further. c.mu is held.
func (c *blockCache) behind(reader int) bool {
	for _, at := range c.readers {
		if at > c.readers[reader] {
			return true
		}
	}
	return false
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
