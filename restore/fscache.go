package restore

import (
	lru "container/list"
	"errors"
	"io/fs"
	"sync"
)

// fsCache keeps what was used last, up to a limit. Of those who want the same thing at a time one brings it, in his own
// goroutine, and the others wait. What could not be brought is not kept: whoever asks next tries again.
type fsCache[K comparable, V any] struct {
	limit int64
	size  func(V) int64

	mu      sync.Mutex
	entries map[K]*fsEntry[K, V] // nil once closed
	recent  lru.List             // of the entries that are there; what was used last stands in front
	used    int64                // their sizes
}

type fsEntry[K comparable, V any] struct {
	key   K
	ready chan struct{} // closed once value or err are there
	value V
	err   error
	place *lru.Element // nil until then
}

func newFSCache[K comparable, V any](limit int64, size func(V) int64) *fsCache[K, V] {
	return &fsCache[K, V]{limit: limit, size: size, entries: map[K]*fsEntry[K, V]{}}
}

// get returns what is kept under key, or brings it.
func (c *fsCache[K, V]) get(key K, bring func() (V, error)) (V, error) {
	c.mu.Lock()
	if c.entries == nil {
		c.mu.Unlock()
		var none V
		return none, fs.ErrClosed
	}
	if e := c.entries[key]; e != nil {
		if e.place != nil {
			c.recent.MoveToFront(e.place)
		}
		c.mu.Unlock()
		<-e.ready
		return e.value, e.err
	}
	e := &fsEntry[K, V]{key: key, ready: make(chan struct{}), err: errors.New("restore: a read that panicked")}
	c.entries[key] = e
	c.mu.Unlock()
	defer c.done(e)
	e.value, e.err = bring()
	return e.value, e.err
}

// done keeps what was brought.
func (c *fsCache[K, V]) done(e *fsEntry[K, V]) {
	close(e.ready)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		return
	}
	if e.err != nil {
		delete(c.entries, e.key)
		return
	}
	e.place = c.recent.PushFront(e)
	for c.used += c.size(e.value); c.used > c.limit; {
		last, ok := c.recent.Remove(c.recent.Back()).(*fsEntry[K, V])
		if !ok {
			return
		}
		c.used -= c.size(last.value)
		delete(c.entries, last.key)
	}
}

func (c *fsCache[K, V]) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries == nil
}

func (c *fsCache[K, V]) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.used = nil, 0
	c.recent.Init()
}
