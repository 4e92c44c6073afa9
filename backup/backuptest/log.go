package backuptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// change is what a record does to a file: a block of it is written, or it is cut off.
type change struct {
	timeline wal.Timeline
	at       wal.LSN
	file     wal.File
	block    uint32
	cut      bool
}

// append writes a record, when the cluster logs what is done to it.
func (c *Cluster) append(r waltest.Record) (start, end wal.LSN) {
	if c.log == nil {
		start = c.at
		c.at += 256
		return start, c.at
	}
	start, end = c.log.Append(r)
	c.moved()
	return start, end
}

// moved follows the log to where it has come to.
func (c *Cluster) moved() {
	c.at = c.log.Next()
	c.last[c.timeline] = wal.SegmentAt(c.timeline, c.at, c.options.SegmentSize).Number
}

func (c *Cluster) changed(r waltest.Record, f wal.File, block uint32, cut bool) {
	at, _ := c.append(r)
	c.changes = append(c.changes, change{timeline: c.timeline, at: at, file: f, block: block, cut: cut})
}

// logFile logs what becomes of a relation's file; nil is one that is not there. Free space maps are not logged, and of what
// a file grows by, not what is zero.
func (c *Cluster) logFile(p string, before, now *file, at time.Time) {
	r, ok := pgfile.ParseRelation(p)
	if c.log == nil || !ok || r.Fork == "fsm" || before == now {
		return
	}
	f := wal.File{Relation: wal.Relation{Tablespace: r.Tablespace, Database: r.Database, Number: r.Number}}
	switch r.Fork {
	case "vm":
		f.Fork = wal.VisibilityMapFork
	case "init":
		f.Fork = wal.InitFork
	}
	first := r.Segment * c.options.RelSegPages
	if now == nil && f.Fork == wal.MainFork && first == 0 {
		c.xid++
		c.changed(waltest.Commit(c.xid, at, f.Relation), f, 0, true)
		return
	}
	had, has := pagesOf(before), pagesOf(now)
	switch length := first + uint32(len(has)); {
	case len(has) < len(had) && f.Fork == wal.MainFork:
		c.changed(waltest.Truncate(f.Relation, length), f, length, true)
	case now == nil:
		return
	case before == nil && first == 0, len(has) < len(had): // it is made, or made anew
		c.changed(waltest.Create(f), f, 0, true)
		had = nil
	}
	for i, page := range has {
		if i < len(had) && bytes.Equal(page, had[i]) || i >= len(had) && pgfile.Zero(page) {
			continue
		}
		block := first + uint32(i)
		c.changed(waltest.FullPage(f, block, page), f, block, false)
	}
}

// pagesOf cuts a file into pages. The last is filled up with zeros.
func pagesOf(f *file) (pages [][]byte) {
	if f == nil {
		return nil
	}
	for content := f.data; len(content) > 0; content = content[min(pageSize, len(content)):] {
		page := make([]byte, pageSize)
		copy(page, content)
		pages = append(pages, page)
	}
	return pages
}

// Commit ends a transaction, and returns its ID and when it ended. It panics unless the cluster is Logged.
func (c *Cluster) Commit() (xid uint32, at time.Time) {
	at = c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mustLog()
	c.xid++
	c.append(waltest.Commit(c.xid, at))
	return c.xid, at
}

// RestorePoint makes a restore point, as pg_create_restore_point does. It panics unless the cluster is
// Logged.
func (c *Cluster) RestorePoint(name string) wal.LSN {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mustLog()
	_, end := c.append(waltest.RestorePoint(name, now))
	return end
}

func (c *Cluster) mustLog() {
	if c.log == nil {
		panic("backuptest: the WAL of this cluster has no records: set Options.Logged")
	}
}

// Summaries implements backup.Summarizer.
func (s *session) Summaries(ctx context.Context, t wal.Timeline, from, to wal.LSN) (*wal.Blocks, error) {
	if err := s.ask(ctx, Call{Op: OpSummaries}); err != nil {
		return nil, err
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	switch {
	case s.c.log == nil:
		return nil, errors.New("backuptest: the WAL has no records")
	case to > s.c.at || t > s.c.timeline:
		return nil, fmt.Errorf("backuptest: the WAL is not written up to %s of timeline %d", to, t)
	}
	blocks := &wal.Blocks{}
	for _, ch := range s.c.changes {
		switch {
		case ch.timeline != t || ch.at < from || ch.at >= to:
		case ch.cut && ch.file.Fork == wal.MainFork && ch.block == 0: // dropped, or made anew
			for _, f := range []wal.ForkNumber{wal.MainFork, wal.VisibilityMapFork, wal.InitFork} {
				blocks.Cut(wal.File{Relation: ch.file.Relation, Fork: f}, 0)
			}
		case ch.cut:
			blocks.Cut(ch.file, ch.block)
		default:
			blocks.Mark(ch.file, ch.block)
		}
	}
	return blocks, nil
}
