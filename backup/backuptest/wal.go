package backuptest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// firstRecord is where the first record of a segment begins, after the long page header.
const firstRecord = 40

// segment returns a segment of the current timeline.
func (c *Cluster) segment(number uint64) wal.Segment {
	return wal.Segment{Timeline: c.timeline, Number: number, Size: c.options.SegmentSize}
}

// room is how much fits into the current segment yet.
func (c *Cluster) room() uint64 {
	return uint64(wal.SegmentAt(c.timeline, c.at, c.options.SegmentSize).End() - c.at)
}

// nextSegment completes the current segment.
func (c *Cluster) nextSegment() {
	if c.log != nil {
		c.log.Switch()
		c.moved()
		return
	}
	c.last[c.timeline]++
	c.at = c.segment(c.last[c.timeline]).Start() + firstRecord
}

// LSN is the end of the WAL.
func (c *Cluster) LSN() wal.LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Timeline is the timeline that the cluster is on: 1 until [Cluster.Promote].
func (c *Cluster) Timeline() wal.Timeline {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timeline
}

// Switch completes a number of segments, the current one first, and returns the end of the WAL.
func (c *Cluster) Switch(segments int) wal.LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range segments {
		c.nextSegment()
	}
	return c.at
}

// Promote begins a new timeline in the middle of the current segment, as recovery does when it ends.
func (c *Cluster) Promote() wal.Timeline {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := c.last[c.timeline]
	c.forks = append(c.forks, wal.Fork{Timeline: c.timeline, At: c.at})
	c.last[c.timeline]-- // which never becomes complete
	c.timeline++
	c.first[c.timeline], c.last[c.timeline] = number, number
	if c.log != nil {
		c.log.Fork(c.timeline)
	}
	c.append(waltest.Noop("a timeline begins"))
	return c.timeline
}

// Recycle removes all complete segments from pg_wal, as a server does with those that it does not need any more.
func (c *Cluster) Recycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.first {
		c.first[t] = c.last[t]
		if t != c.timeline {
			c.first[t]++
		}
	}
}

// WAL returns the content of a file of pg_wal: a complete segment, or a history. One that is not there is an error
// matching fs.ErrNotExist.
func (c *Cluster) WAL(name string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := &fs.PathError{Op: "open", Path: "pg_wal/" + name, Err: fs.ErrNotExist}
	n, err := wal.ParseName(name)
	switch {
	case err != nil:
		return nil, missing
	case n.Kind == wal.KindHistory:
		if n.Timeline < 2 || n.Timeline > c.timeline {
			return nil, missing
		}
		return waltest.History(c.forks[:n.Timeline-1]...), nil
	case n.Kind != wal.KindSegment:
		return nil, missing
	}
	s, err := n.Segment(c.options.SegmentSize)
	if err != nil || !slices.Contains(c.complete(n.Timeline), s.Number) {
		return nil, missing
	}
	return c.content(s), nil
}

func (c *Cluster) content(s wal.Segment) []byte {
	if c.log != nil {
		return c.log.Segment(s)
	}
	return waltest.Segment(s, c.options.SystemID, c.options.PGVersion/10000)
}

// walFile is WAL as a backup sees it: also the segment that is being written, where what is in it says something.
func (c *Cluster) walFile(name string) ([]byte, error) {
	b, err := c.WAL(name)
	if err == nil || c.log == nil {
		return b, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.segment(c.last[c.timeline]); name == s.Name() {
		return c.content(s), nil
	}
	return nil, err
}

// complete returns the numbers of the complete segments there are of a timeline.
func (c *Cluster) complete(t wal.Timeline) []uint64 {
	end := c.last[t]
	if t != c.timeline {
		end++
	}
	var all []uint64
	for n := c.first[t]; n < end; n++ {
		all = append(all, n)
	}
	return all
}

// Archive pushes all complete segments, and histories, that are in pg_wal, as an archive_command would.
func (c *Cluster) Archive(ctx context.Context, a *wal.Archive) error {
	c.mu.Lock()
	var names []string
	for t := wal.Timeline(1); t <= c.timeline; t++ {
		for _, n := range c.complete(t) {
			if !slices.Contains(c.pushed[t], n) {
				names = append(names, wal.Segment{Timeline: t, Number: n, Size: c.options.SegmentSize}.Name())
			}
		}
		if t > 1 {
			names = append(names, t.HistoryName())
		}
	}
	c.mu.Unlock()
	for _, name := range names {
		if err := c.push(ctx, a, name); err != nil {
			return fmt.Errorf("backuptest: archive %s: %w", name, err)
		}
	}
	return nil
}

func (c *Cluster) push(ctx context.Context, a *wal.Archive, name string) error {
	b, err := c.WAL(name)
	if err != nil {
		return err
	}
	n, err := wal.ParseName(name)
	if err != nil {
		return err
	}
	if err := a.PushContent(ctx, n, bytes.NewReader(b), int64(len(b))); err != nil || n.Kind != wal.KindSegment {
		return err
	}
	s, err := n.Segment(c.options.SegmentSize)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pushed[n.Timeline] = append(c.pushed[n.Timeline], s.Number)
	return nil
}
