package backup

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// sharedContent is a file that several read. It is opened once what is kept of it does not do.
type sharedContent struct {
	m    *sharer
	path string

	mu  sync.Mutex // held while it is opened
	own *openFile
}

// openFile is a file of the server that is open, or being opened, for as many.
type openFile struct {
	users   int           // shared.mu is held
	ready   chan struct{} // closed when it is open, or cannot be
	content Content
	err     error
}

// open opens a file for one more. Who wants to stop, and waits for WAL, is to see it as it is by now.
func (a *shared) open(path string, m *sharer) (*openFile, error) {
	a.mu.Lock()
	f := a.files[path]
	if f != nil && !m.stopping {
		f.users++
		a.mu.Unlock()
		<-f.ready
	} else {
		f = &openFile{users: 1, ready: make(chan struct{})}
		if !m.stopping {
			a.files[path] = f
		}
		a.mu.Unlock()
		content, err := a.session.Open(a.ctx, path)
		if f.err = err; err == nil { // else it may be a nil of the session's own type
			f.content = content
			a.others(path, m.number)
		}
		close(f.ready)
	}
	if f.err != nil {
		_ = a.close(path, f)
		return nil, f.err
	}
	if _, ok := f.content.(RangeReader); ok {
		a.ranged.Store(true)
	}
	return f, nil
}

// others takes down that a member has opened a file. Many are empty, or kept, so that others need not ask the server.
func (a *shared) others(path string, number int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.opened[path] != nil {
		return
	}
	for other := range a.members {
		if other != number {
			a.opened[path] = append(a.opened[path], other)
		}
	}
}

// wasOpen tells whether somebody else has opened a file since a member did, who then has it for open, too.
func (a *shared) wasOpen(path string, m *sharer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.opened[path], m.number)
	if i < 0 {
		return false
	}
	if a.opened[path] = slices.Delete(a.opened[path], i, i+1); len(a.opened[path]) == 0 {
		delete(a.opened, path)
	}
	return !m.stopping
}

// close is that one less needs a file.
func (a *shared) close(path string, f *openFile) error {
	a.mu.Lock()
	f.users--
	last := f.users == 0
	if last && a.files[path] == f {
		delete(a.files, path)
	}
	a.mu.Unlock()
	if !last || f.content == nil {
		return nil
	}
	return f.content.Close()
}

func (c *sharedContent) open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own != nil {
		return nil
	}
	a := c.m.all
	a.reading.RLock()
	defer a.reading.RUnlock()
	if a.dropped(c.m.number) {
		return errDropped
	}
	own, err := a.open(c.path, c.m)
	c.own = own
	return err
}

// Close implements Content.
func (c *sharedContent) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil {
		return nil
	}
	return c.m.all.close(c.path, c.own)
}

// by runs a read of the server's file. One that has vanished before it was opened was open as far as its reader knows.
func (c *sharedContent) by(read func(Content) (int, error)) (int, error) {
	err := c.open()
	if errors.Is(err, fs.ErrNotExist) {
		if _, relation := pgfile.ParseRelation(c.path); relation {
			return 0, io.EOF
		}
	}
	if err != nil {
		return 0, err
	}
	a := c.m.all
	a.reading.RLock()
	defer a.reading.RUnlock()
	if a.dropped(c.m.number) {
		return 0, errDropped
	}
	return read(c.own.content)
}

// read reads from the server.
func (c *sharedContent) read(p []byte, off int64) (int, error) {
	return c.by(func(own Content) (int, error) { return own.ReadAt(p, off) })
}

// ReadAt implements Content.
func (c *sharedContent) ReadAt(p []byte, off int64) (n int, err error) {
	blocks := c.m.all.blocks
	if blocks.size == sharedPage {
		counts, err := c.pages(p, []Range{{Offset: off, Length: len(p)}})
		if err == nil && counts[0] < len(p) {
			err = io.EOF
		}
		return counts[0], err
	}
	for n < len(p) {
		at := off + int64(n)
		want := p[n:min(len(p), n+int(blocks.size-at%blocks.size))]
		k, err := c.part(want, at)
		if n += k; err != nil {
			return n, err
		}
		if k < len(want) {
			return n, io.EOF
		}
	}
	return n, nil
}

// part is ReadAt within a block, all of which is read.
func (c *sharedContent) part(p []byte, off int64) (int, error) {
	blocks, reader := c.m.all.blocks, c.m.number
	from := int(off % blocks.size)
	key := blockKey{c.path, off - int64(from), int(blocks.size)}
	b, mine := blocks.find(reader, key, Range{Offset: int64(from), Length: len(p)}, true)
	if b == nil {
		return c.read(p, off)
	}
	if mine {
		data, err := c.load(key)
		blocks.loaded(reader, b, data, err)
	}
	n, ok, err := blocks.take(reader, b, p, from)
	if err == nil && !ok {
		return c.read(p, off) // which fails by itself
	}
	return n, err
}

// load reads a block. Small files take no more memory than they have.
func (c *sharedContent) load(key blockKey) ([]byte, error) {
	blocks := c.m.all.blocks
	buf, ok := blocks.spare.Get().(*[]byte)
	if !ok {
		buf = new(make([]byte, blocks.size))
	}
	n, err := c.read(*buf, key.off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if n > len(*buf)/2 {
		return (*buf)[:n], err
	}
	defer blocks.spare.Put(buf)
	return slices.Clone((*buf)[:n]), err
}

// sharedRanges is a sharedContent of a source whose contents read several ranges at a time.
type sharedRanges struct{ *sharedContent }

// ReadRanges implements RangeReader.
func (c sharedRanges) ReadRanges(p []byte, ranges []Range) ([]int, error) { return c.pages(p, ranges) }

// pagePart is a part of a range, a page or a part of one: it is kept for its reader, or is to be read and kept for others,
// or only to be read.
type pagePart struct {
	of   int   // number of the range
	off  int64 // in the file
	p    []byte
	page *block
	mine bool
	n    int // bytes that there are
}

// pages reads ranges as a RangeReader does, page by page: those that are kept for its reader are not read again, and the
// others are kept for the others.
func (c *sharedContent) pages(p []byte, ranges []Range) ([]int, error) {
	counts := make([]int, len(ranges))
	all := c.cut(p, ranges)
	err := c.readOwn(all)
	for i := range all {
		if s := &all[i]; s.mine {
			c.m.all.blocks.loaded(c.m.number, s.page, slices.Clone(s.p[:s.n]), err)
		}
	}
	for i := range all {
		s := &all[i]
		if s.page == nil {
			continue
		}
		n, ok, terr := c.m.all.blocks.take(c.m.number, s.page, s.p, 0)
		switch {
		case err != nil:
			continue
		case terr != nil:
			err = terr
		case ok:
			s.n = n
		default: // who was to read it has failed
			if s.n, err = c.read(s.p, s.off); errors.Is(err, io.EOF) {
				err = nil
			}
		}
	}
	if err != nil {
		return counts, err
	}
	// Where the file ends a range does, and the next follows.
	to, ended := 0, -1
	for _, s := range all {
		if s.of == ended {
			continue
		}
		to += copy(p[to:], s.p[:s.n])
		counts[s.of] += s.n
		if s.n < len(s.p) {
			ended = s.of
		}
	}
	return counts, nil
}

// cut cuts ranges into pages, and finds out which of them are kept.
func (c *sharedContent) cut(p []byte, ranges []Range) []pagePart {
	var all []pagePart
	blocks, wait := c.m.all.blocks, true
	for i, r := range ranges {
		for off, end := r.Offset, r.Offset+int64(r.Length); off < end; {
			next := min(end, off-off%sharedPage+sharedPage)
			s := pagePart{of: i, off: off, p: p[:next-off]}
			if n := len(s.p); blocks.size == sharedPage {
				s.page, s.mine = blocks.find(c.m.number, blockKey{c.path, off, n}, Range{Length: n}, wait)
				wait = wait && !s.mine // others may wait for it, whom it must not wait for
			}
			all = append(all, s)
			p, off = p[next-off:], next
		}
	}
	return all
}

// readOwn reads what is not kept for this reader: what is next to each other at once and, where the source can, everything.
func (c *sharedContent) readOwn(all []pagePart) error {
	type run struct{ first, last int } // numbers of stretches
	var runs []run
	var asked []Range
	total := 0
	for i, s := range all {
		if s.page != nil && !s.mine {
			continue
		}
		total += len(s.p)
		if n := len(runs); n > 0 && runs[n-1].last == i-1 && all[i-1].of == s.of {
			runs[n-1].last = i
			asked[n-1].Length += len(s.p)
			continue
		}
		runs, asked = append(runs, run{i, i}), append(asked, Range{Offset: s.off, Length: len(s.p)})
	}
	spread := func(r run, got []byte) {
		for i := r.first; i <= r.last; i++ {
			all[i].n = copy(all[i].p, got)
			got = got[all[i].n:]
		}
	}
	if len(runs) > 1 && c.m.all.ranged.Load() {
		buf, counts := make([]byte, total), []int(nil)
		_, err := c.by(func(own Content) (n int, err error) {
			counts, err = own.(RangeReader).ReadRanges(buf, asked)
			return 0, err
		})
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i, n := range counts {
			spread(runs[i], buf[:n])
			buf = buf[n:]
		}
		return nil
	}
	for i, r := range runs {
		// They lie one behind the other in what they were cut from.
		into := all[r.first].p[:asked[i].Length:asked[i].Length]
		n, err := c.read(into, asked[i].Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		spread(r, into[:n])
	}
	return nil
}
