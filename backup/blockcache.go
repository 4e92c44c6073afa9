package backup

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"
)

const (
	sharedBlock = 1 << 20  // bytes of a block where files are read whole: it is read at once
	sharedPage  = 8 << 10  // and at most where they are read in part: only what is asked for is read
	sharedBytes = 64 << 20 // that are kept at most
	leastCost   = 1 << 10  // of a block, however short
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
	oldest  *list.List    // of *block, in the order in which they were made
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
	place *list.Element   // in oldest
}

// newBlockCache makes one for files that are read whole, or in part.
func newBlockCache(ctx context.Context, patience time.Duration, whole bool) *blockCache {
	c := &blockCache{
		ctx: ctx, patience: patience, size: sharedPage, readers: map[int]int64{}, blocks: map[blockKey]*block{}, oldest: list.New(), room: make(chan struct{}),
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
	for e := c.oldest.Front(); e != nil; {
		b, _ := e.Value.(*block)
		e = e.Next()
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
	c.oldest.Remove(b.place)
	c.wake()
}

// wake has those look again who wait for room. c.mu is held.
func (c *blockCache) wake() {
	close(c.room)
	c.room = make(chan struct{})
}

// passOver lets go of blocks of which nobody wants the rest: files are read to the size that they had when they were
// listed, and may have more by now. c.mu is held.
func (c *blockCache) passOver() {
	for e := c.oldest.Front(); e != nil; e = c.oldest.Front() {
		b, _ := e.Value.(*block)
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

// loaded gives a block what was read of it, by the reader whose it is. Who has read last is the first of all, and only the
// first ever waits for room: there is some within what he has passed by, or others that are behind.
func (c *blockCache) loaded(reader int, b *block, data []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.wake()
	b.data, b.err = data, err
	c.made += max(int64(len(data)), leastCost)
	if _, kept := c.readers[reader]; kept {
		c.readers[reader] = max(c.readers[reader], c.made)
	}
	if c.blocks[b.key] == b {
		c.held -= b.held
		b.held = max(int64(cap(data)), leastCost)
		c.held += b.held
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
// read by itself, as it does where it is far behind, and nobody else may want it any more; or where there is no room and it
// may not wait for that, or is not the first.
func (c *blockCache) find(reader int, key blockKey, r Range, wait bool) (b *block, mine bool) {
	var late <-chan time.Time
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
		room := c.held+int64(key.n) <= sharedBytes
		if room && !c.behind(reader, passedOn) {
			break
		}
		if room || !wait || c.behind(reader, 0) {
			c.readers[reader] += int64(key.n)
			c.wake()
			return nil, false
		}
		if late == nil {
			late = time.After(c.patience)
		}
		freed := c.room
		c.mu.Unlock()
		select {
		case <-freed:
		case <-c.ctx.Done():
		case <-late:
			c.leaveBehind(reader)
			late = nil
		}
		c.mu.Lock()
		if c.ctx.Err() != nil {
			return nil, false
		}
	}
	b = &block{key: key, made: c.made, held: int64(key.n), ready: make(chan struct{}), owed: map[int][]Range{}}
	c.held += b.held
	for other := range c.readers {
		b.owed[other] = nil
	}
	b.owed[reader] = []Range{r}
	c.blocks[key], b.place = b, c.oldest.PushBack(b)
	return b, true
}

// behind tells whether somebody has read on by more bytes. c.mu is held.
func (c *blockCache) behind(reader int, by int64) bool {
	for _, at := range c.readers {
		if at > c.readers[reader]+by {
			return true
		}
	}
	return false
}

// leaveBehind keeps nothing more for those who hold up a reader.
func (c *blockCache) leaveBehind(reader int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.oldest.Front()
	if e == nil {
		return
	}
	behind := false
	b, _ := e.Value.(*block)
	for other := range b.owed {
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
